"""Chat templates in the style of well-known ones, written for these tests, and conversations to render."""

CHATML = """{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{% endif %}"""

DEFAULT_SYSTEM = """{%- if messages[0]['role'] == 'system' -%}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' -}}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {{- '<|im_start|>system\\nYou are kind.<|im_end|>\\n' -}}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""

LLAMA2 = """{% if messages[0]['role'] == 'system' %}
{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}
{% set turns = messages[1:] %}
{% else %}
{% set system = '' %}
{% set turns = messages %}
{% endif %}
{% for message in turns %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate: user, assistant, user, ...') }}
{% endif %}
{% set content = system + message['content'] if loop.index0 == 0 else message['content'] %}
{% if message['role'] == 'user' %}
{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{% elif message['role'] == 'assistant' %}
{{ ' ' + content.strip() + ' ' + eos_token }}
{% endif %}
{% endfor %}"""

LLAMA3 = """{% for message in messages %}
{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' +
    message['content'] | trim + '<|eot_id|>' %}
{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}
{{ content }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

MISTRAL = """{{- bos_token }}
{%- for message in messages %}
    {%- if message["role"] == "user" %}
        {{- "[INST] " + message["content"] + "[/INST]" }}
    {%- elif message["role"] == "system" %}
        {{- "[SYSTEM_PROMPT] " ~ message["content"] ~ "[/SYSTEM_PROMPT]" }}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] | trim + eos_token }}
    {%- else %}
        {{- raise_exception("only user, system and assistant are known") }}
    {%- endif %}
{%- endfor %}"""

GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}
{%- for message in messages -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor -%}
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

THINKING = """{%- set state = namespace(last=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set state.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- if '</think>' in content and loop.index0 < state.last %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' + content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"""

TOOLS = """{%- if tools %}
{{- '<|im_start|>system\\nTools:\\n' }}
{%- for tool in tools %}{{ tool | tojson }}{{ '\\n' }}{% endfor %}
{{- tools | tojson(indent=2) + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.content is string %}{% set content = message.content %}
{%- else %}{% set content = message.content | map(attribute='text') | join('|') %}{% endif %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

MACROS = """{% macro turn(role, text='') -%}
<|im_start|>{{ role }}
{{ text | replace('\\r\\n', '\\n') | trim }}<|im_end|>
{% endmacro -%}
{%- for message in messages %}
    {%- if message.content | length == 0 %}{% continue %}{% endif %}
    {%- if loop.index > 20 %}{% break %}{% endif %}
{{ turn(message.role, message.content) }}
{%- endfor %}
{%- if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""

GENERATION = """{% for message in messages %}
{% if message.role == 'assistant' %}
<|im_start|>assistant
{% generation %}
{{ message.content | trim }}<|im_end|>{% endgeneration %}

{% else %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""

DATED = """{{ bos_token }}Today {{ strftime_now('%Y') | length }} {% set box = dict(a=1) %}{{ box.a }}
{% for message in messages %}{{ loop.cycle('A', 'B') }}: {{ message.content | upper }}{{ eos_token }}
{% endfor %}{% if add_generation_prompt %}B:{% endif %}"""

TEMPLATES = {
    name.lower(): text for name, text in list(globals().items()) if name.isupper() and isinstance(text, str)
}

USER = {"role": "user", "content": "What is 12 × 3 + é? "}
CHATS = {
    "one": [USER],
    "turns": [
        USER,
        {"role": "assistant", "content": " It is 36.\n"},
        {"role": "user", "content": "Why?\r\n"},
    ],
    "system": [{"role": "system", "content": "Be short."}, USER, {"role": "assistant", "content": "36"}],
    "answered": [
        USER,
        {"role": "assistant", "content": "36"},
        USER,
        {"role": "assistant", "content": "36, again"},
    ],
    "odd": [
        {"role": "user", "content": "👩‍👩‍👧 \x00 日本 {{ 7*7 }} {% raw %} <b>&amp;</b>"},
        {"role": "assistant", "content": "<think>\nso\n</think>\n\nyes"},
        {"role": "user", "content": "  spaces \n\n"},
    ],
}
