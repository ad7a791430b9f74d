"""Hand-written templates for each construct of the language: expressions between " | ", and templates, one a line."""

VARIABLES = {
    "text": "Hello World", "blank": "", "uni": "naïve 日本🙂", "padded": "  x y  ", "lines": "a\nb\n\n c", "n": 7, "neg": -7,
    "zero": 0, "f": 2.5, "big": 1e16, "small": 0.00001, "yes": True, "no": False, "nil": None, "list": [3, 1, 2],
    "empty": [], "words": ["b", "A", "c", "a"], "mixed": [1, "a", None, 2.0, True], "d": {"a": 1, "b": {"c": [1, 2]}, "items": 3},
    "none_d": {}, "users": [{"name": "Bob", "age": 3, "in": {"x": 1}}, {"name": "al", "age": 1, "in": {"x": 2}},
                            {"name": "Cy", "age": 3}],
    "html": "<a href='x'>&\"</a>", "tree": [{"v": 1, "kids": [{"v": 2, "kids": [{"v": 3}]}, {"v": 4}]}, {"v": 5}],
}

EXPRESSIONS = r"""
1 + 2 * 3 | 7 // 2 ~ neg // 2 | neg % 3 ~ ' ' ~ 7 % -3 | 7 / 2 | 6 / 3 | 2 ** 10 | 2 ** -1 | -2 ** 2 | 2 ** 3 ** 2 | f // 1 | -f % 2 | f * 2 | 1e3 | 1_000 | 0x1F | 0b101 | 0o17 | 1.5e-7
big | small | 1e15 | 123456789.125 | 0.1 + 0.2 | 1e22 | 1e100 | -0.0 | 1.0 | 5e-324 | 3.0 * yes | yes + yes | no - 1 | n / zero | n % zero | 1.0 // 0
nil | yes | [nil, yes, 1.0, 'it\'s', "q\"q", 'both\'"'] | {'a': nil, 1: 'x', 1.5: 2, nil: 3, yes: 4} | (1,) | (1, 2) | () | [[]] | {} | uni | [uni] | ['\n\t\\\x01\x7f\u00a0\u200b'] | 'a' 'b' | "\u00e9\x41\101\q"
1 < 2 < 3 | 1 < 2 > 3 | 1 == 1.0 | 'a' == 'b' | [1, 2] < [1, 3] | (1, 'a') < (1, 'b') | nil == nil | nil < 1 | 'a' < 1 | undefined_x == undefined_y | undefined_x < 1 | 1 in [1.0] | 'a' in 'abc' | '' in '' | 1 in 'abc' | 'x' not in d | 'a' in d | nil in [nil] | not 1 in [2] | 3 in range(3) | 2 in range(0, 10, 2) | 1 in nil | 1 in undefined_x
yes and 'x' | no and 'x' | no or 'x' | '' or [] or 0 | not '' | not not 1 | 1 if yes | 1 if no | 1 if no else 2 | (1 if no) is defined | 1 if no else 2 if no else 3 | yes and no or 'z'
text ~ 1 ~ nil ~ 2.5 ~ [1] | 'a' + 1 | 'a' + 'b' | [1] + [2] | (1,) + (2,) | [1] + (2,) | 'ab' * 3 | [0] * 2 | 3 * 'x' | 'a' * -1 | 'a' * 1.5 | 'a' - 'b' | -text | +n | -yes
text[0] | text[-1] | text[100] | text[1:4] | text[::-1] | text[-3:] | text[:-3] | text[::2] | text[8:2:-2] | text[5:2] | uni[2] | uni[-1] | uni[::-1] | uni[1:3] | uni | list[0] | list[-1] | list[5] | list[1:] | list[::-1] | list[:] | list[::0] | range(10)[2:8:2] | range(5)[-1] | (1,2,3)[1:] | text['a'] | list['a'] | d['a'] | d.b.c[1] | d['x'] | d.x.y | d.items | d['items'] | nil.a | nil['a'] | nil.a.b | n.x | d[[1]] | text[nil] | list[yes] | list[1.0] | nil[1:] | d[1:2] | undefined_x[0] | undefined_x.a | undefined_x | list.0 | d.b['c'].0
text.upper() | text.lower() | text.title() | text.capitalize() | text.swapcase() | text.strip('Hd') | padded.strip() | padded.lstrip() | padded.rstrip() | text.split() | text.split('o') | text.split('o', 1) | padded.split(' ') | 'a  b c'.split(nil, 1) | 'a b c'.rsplit(' ', 1) | ' a  b c '.rsplit(nil, 1) | ' a b  c '.split(maxsplit=1) | 'a,b'.split(sep=',') | text.split('') | lines.splitlines() | lines.splitlines(yes) | 'a\r\nb\rc'.splitlines() | text.startswith('He') | text.endswith('ld') | text.startswith(('x', 'He')) | text.startswith('e', 1) | text.startswith(['a']) | text.find('o') | text.find('o', 5) | text.rfind('o') | text.index('z') | text.count('l') | text.count('') | uni.find('日') | uni.count('') | text.replace('l', 'L') | text.replace('l', 'L', 1) | 'abc'.replace('', '-') | ','.join(['a', 'b']) | ','.join([1]) | '-'.join('abc') | text.removeprefix('Hel') | text.removesuffix('ld') | 'a=b=c'.partition('=') | 'a=b=c'.rpartition('=') | 'abc'.partition('x') | 'x'.center(6, '*') | 'x'.ljust(4) ~ '|' | 'x'.rjust(4) | '-7'.zfill(5) | 'abc'.isalpha() | '12'.isdigit() | 'a1'.isalnum() | ' '.isspace() | ''.isspace() | 'A'.isupper() | 'aB'.islower() | text.nope | text.nope() | text.upper(1) | text.strip(chars='x') | 'ß'.upper() | 'ǆ'.title() | 'ΑΣ'.lower() | 'İ'.lower()
d.get('a') | d.get('x') | d.get('x', 5) | d.keys() | d.values() | d.items() | d.keys() | list | d.items() | list | d.get() | d.update({'x': 1}) | d.pop('a') | d.update | list.append(1) | list.append | list.index(1) | list.index(9) | list.count(3) | list.pop() | list.sort() | {'a': 1}.copy() | d.clear is defined
'{} {}'.format(1, 'a') | '{0}{1}{0}'.format('x', 'y') | '{a}'.format(a=3) | '{:>5}|{:<4}|{:^5}'.format('a', 'b', 'c') | '{:05d}'.format(42) | '{:.2f}'.format(3.14159) | '{:,}'.format(1234567) | '{:x}'.format(255) | '{!r}'.format('a') | '{{}}'.format() | '{}'.format() | '{0.name}'.format(users[0]) | '{0[name]}'.format(users[0]) | '{:e}'.format(12345.678) | '{:*^9}'.format('mid') | '%s-%d' % ('a', 3) | '%05.1f|%+d|%x' % (2.25, 3, 255) | '%s' % 'x' | '%s' % [1] | '%(a)s' % {'a': 1} | '%d' % 'x' | '%s %s' % ('a',) | '100%%' % () | '%-5s|' % 'a' | '%5s|' % 'ab' | '%r' % 'a' | '%c' % 65 | '%s' % nil | '%.2s' % 'abc' | '%e' % 12345.6789 | '%g' % 0.00001
text | upper | lower | length | 'x' | title | padded | trim | padded | trim ~ '|' | text | trim('Hd') | text | replace('o', '0') | text | replace('o', '0', 1) | 5 | replace(5, 6) | 'hello wORLD-foo (bar) [baz' | title | 'hELLO' | capitalize | lines | indent | lines | indent(2, true) | lines | indent(2, false, true) | lines | indent('> ') | lines | indent(width=1, first=true, blank=true) | '' | indent | 'a\n' | indent(2) ~ '|' | text | wordcount | uni | wordcount | 'x' | center(5) ~ '|' | 'long text that goes on' | truncate(10) | 'long text that goes on' | truncate(10, true) | 'long text that goes on' | truncate(10, false, '~', 0) | html | e | html | escape ~ '<' | (html | e) + '<' | html | e | e | html | forceescape | html | safe | html | safe | e | html | urlencode | {'a b': 'c&d', 'e': 1} | urlencode | 'a/b c' | urlencode | 5 | string | nil | string | [1] | string | '%s=%s' | format('a', 1) | '%(x)s' | format(x=2) | nil | upper | 5 | length | text | list | text | first | text | last
list | first | empty | first | empty | last | list | last | list | length | d | length | d | count | nil | length | undefined_x | length | range(4) | length | list | join | list | join(', ') | list | join(1) | users | join(', ', attribute='name') | words | sort | words | sort(case_sensitive=true) | words | sort(reverse=true) | list | sort | mixed | sort | users | sort(attribute='age') | map(attribute='name') | list | users | sort(attribute='age,name') | map(attribute='name') | join | users | map(attribute='in.x') | list | users | map(attribute='in.x', default='?') | list | users | map(attribute='zz') | list | words | map('upper') | list | words | map('replace', 'a', 'z') | join | words | map('nope') | list | words | map | list | list | map('string') | list | mixed | select | list | mixed | reject | list | list | select('odd') | list | list | select('gt', 1) | list | list | reject('even') | list | list | select('in', [1, 3]) | list | users | selectattr('age', 'equalto', 3) | map(attribute='name') | list | users | rejectattr('in') | list | length | users | selectattr('in.x', 'defined') | list | length | users | selectattr('age', '>', 1) | list | length | users | selectattr | list | [1, 1, 2, 1.0, 'a', 'A'] | unique | list | words | unique(true) | list | users | unique(attribute='age') | map(attribute='name') | list | list | reverse | list | text | reverse | 'abc' | reverse | list | min | list | max | words | min | words | max(case_sensitive=true) | empty | max | users | max(attribute='age') | mixed | max | list | sum | users | sum(attribute='age') | list | sum(start=10) | words | sum | [[1], [2]] | sum(start=[]) | d | items | list | nil | items | list | undefined_x | items | list | d | dictsort | {'b': 1, 'A': 2, 'a': 0} | dictsort | {'b': 1, 'A': 2} | dictsort(true) | {'b': 1, 'a': 2} | dictsort(by='value') | {'b': 1, 'a': 2} | dictsort(reverse=true) | users | groupby('age') | list | length | users | groupby('age') | map(attribute='grouper') | list | users | groupby('name') | map('first') | list | range(7) | batch(3) | list | range(7) | batch(3, 'x') | list | range(7) | slice(3) | list | range(7) | slice(3, 0) | list | nil | default('x') | undefined_x | default('x') | undefined_x | d('y') | '' | default('x', true) | '' | default('x') | undefined_x | default | nil | default('x', boolean=true) | undefined_x.a | default('x') | d | attr('a') | d | attr('get') is callable | list | list | d | list | nil | list | 5 | list | text | join('-') | d | join | range(3) | join
neg | abs | -f | abs | text | abs | yes | abs | '42' | int | 'x' | int | 'x' | int(9) | '3.7' | int | 3.9 | int | -3.9 | int | '0x1f' | int(base=16) | '1f' | int(0, 16) | ' 5 ' | int | '1_0' | int | nil | int | undefined_x | int | [] | int(3) | '1e3' | int | '3.5' | float | 'x' | float | 'x' | float(1.5) | 3 | float | nil | float(2) | 2.5 | round | 3.5 | round | 2.567 | round(2) | 2.5 | round(0, 'ceil') | 2.51 | round(1, 'floor') | 7 | round | 1234 | round(-2) | 2.675 | round(2) | -2.5 | round | 2.5 | round | int | 'a' | round | 0.5 | round(method='up')
d | tojson | [1, 'é<>&\'"', nil, yes, 1.5, 1e20] | tojson | d | tojson(indent=2) | list | tojson(indent=0) | d | tojson(indent='\t') | [] | tojson(indent=2) | {} | tojson(indent=2) | [[], {}] | tojson(indent=1) | d | tojson(separators=(',', ':')) | {'b': 1, 'a': 2} | tojson(sort_keys=true) | 'é🙂' | tojson(ensure_ascii=true) | '\x01\x7f\n\t\u2028/' | tojson | undefined_x | tojson | (1, 2) | tojson | {1: 2, nil: 3, yes: 4, 1.5: 5} | tojson | range(2) | tojson | d.items() | tojson | 'x' | tojson | 1 | tojson | nan_x | tojson | {(1, 2): 3} | tojson | html | safe | tojson | {'b': 1, 'a': {'z': 1, 'y': 2}} | tojson(indent=1, sort_keys=true) | [1] | tojson(false, 1)
text is string | n is number | n is integer | f is float | yes is boolean | yes is number | yes is integer | 1.0 is integer | nil is none | undefined_x is none | undefined_x is undefined | undefined_x is defined | nil is defined | d is mapping | list is mapping | list is sequence | text is sequence | d is sequence | n is sequence | undefined_x is sequence | list is iterable | n is iterable | nil is iterable | range(3) is iterable | text is iterable | yes is true | 1 is true | no is false | 0 is false | n is odd | n is even | n is divisibleby 7 | n is divisibleby(3) | text is odd | 'abc' is lower | 'ABC' is upper | 'a1' is lower | '1' is upper | n is eq 7 | n is ne 7 | n is gt 3 | n is lt 3 | n is ge 7 | n is le 6 | n is equalto(7.0) | n is greaterthan 6 | n is lessthan 8 | 1 is in [1, 2] | 'z' is in 'abc' | nil is sameas nil | yes is sameas true | 1 is sameas true | text is not string | text is not defined | n is not odd | range is callable | text is callable | text.upper is callable | undefined_x is callable | 'upper' is filter | 'zzz' is filter | 'odd' is test | html | e is escaped | html is escaped | (html | safe) is escaped | n is string or yes | not n is string | n is odd and yes | n is divisibleby 7 and n is odd
range(3) | range(1, 4) | range(0, 10, 3) | list | range(3, 0, -1) | list | range(0) | list | range(1, 2, 0) | range('a') | range(1000000) | dict(a=1, b=2) | dict([('a', 1)], b=2) | dict({'x': 1}) | dict(1) | namespace(a=1).a | namespace({'a': 2}).a | namespace(a=1).b | namespace(a=1) | namespace(_a=1) | cycler('a', 'b').next() | cycler() | joiner('x')() | raise_exception('boom {x}') | raise_exception(5) | raise_exception() | strftime_now('%d %b %Y') | strftime_now('%Y-%m-%d %A %j %H:%M %y %B %e %-d %%') | undefined_x() | n() | nil() | list() | text() | lipsum is defined
"""

TEMPLATES = r"""
{% for x in list %}{{ x }}{% endfor %}
{% for x in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}
{% for x in list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}
{% for x in list %}{{ loop.previtem is defined }}{{ loop.nextitem is undefined }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }};{% endfor %}
{% for x in list %}{{ loop }}{{ loop | length }}{{ loop.nope }}{{ loop['index'] }}{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in d %}{{ k }};{% endfor %}
{% for k, v in d %}{{ k }}{% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for x in empty %}{{ x }}{% else %}none{% endfor %}
{% for x in nil %}{% endfor %}
{% for x in undefined_x %}a{% else %}b{% endfor %}
{% for x in n %}{% endfor %}
{% for x in uni %}[{{ x }}]{% endfor %}
{% for x in list if x > 1 %}{{ x }}{{ loop.index }}{{ loop.last }}{{ loop.length }};{% endfor %}
{% for x in list if x > 5 %}{{ x }}{% else %}no{% endfor %}
{% for x in list if loop.index > 1 %}{{ x }}{% endfor %}
{% for x in list %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}
{% for x in list %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% else %}E{% endfor %}
{% for x in [1] %}{% continue %}{% else %}E{% endfor %}
{% for x in [1] %}{% break %}{% else %}E{% endfor %}
{% for x in [1, 2] %}{% for y in [1, 2] %}{% if y == 2 %}{% break %}{% endif %}{{ x }}{{ y }};{% endfor %}{{ loop.index }}{% endfor %}
{% for x in [1, 2] %}{% for y in [1] %}{{ loop.index }}{{ x }}{% endfor %}{{ loop.index }}{% endfor %}
{% for x in [1, 2] %}{% set outer = loop %}{% for y in [7] %}{{ outer.index }}{{ loop.index }}{% endfor %}{% endfor %}
{% break %}
{% for x in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for x in [1, 2] %}{% for y in [] %}{% else %}{% break %}{% endfor %}{{ x }}{% endfor %}
{% for item in tree recursive %}{{ item.v }}{% if item.kids %}({{ loop(item.kids) }}){% endif %}{{ loop.depth }}{% endfor %}
{% for item in tree recursive %}{{ loop.index }}{{ loop.depth0 }}{% if item.kids %}[{{ loop(item.kids) }}]{% endif %}{% else %}none{% endfor %}
{% for item in tree %}{{ loop(item) }}{% endfor %}
{% set x = 1 %}{{ x }}{% set x = x + 1 %}{{ x }}
{% set x = 1 %}{% for y in [1, 2] %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}
{% for y in [1, 2] %}{% set z = y %}{{ z }}{% endfor %}{{ z }}
{% if yes %}{% set x = 5 %}{% endif %}{{ x }}
{% if no %}{% set x = 5 %}{% endif %}{{ x is defined }}
{% if no %}{% set n = 5 %}{% endif %}{{ n }}
{% if no %}{% elif yes %}{% set n = 8 %}{% else %}{% set n = 9 %}{% endif %}{{ n }}
{% for q in [1] %}{% if no %}{% set n = 5 %}{% endif %}{{ n }}{% endfor %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}
{% set a, b = [1] %}{{ a }}
{% set (a, b) = 'xy' %}{{ a }}{{ b }}
{% set a = b = 1 %}
{% set 1 = 2 %}
{% set x.y = 1 %}
{% set d.a = 1 %}
{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{% set ns.b = 3 %}{{ ns.a }}{{ ns.b }}{{ ns.c }}{{ ns }}
{% set ns = namespace() %}{% for x in list %}{% set ns.last = x %}{% endfor %}{{ ns.last }}
{% set ns = namespace(n=0) %}{% for x in list if ns.n < 2 %}{% set ns.n = ns.n + 1 %}{{ x }}{% endfor %}
{% set ns = namespace() %}{% set ns._x = 1 %}
{% set ns = namespace(a=1) %}{% set ns.a, y = 5, 6 %}{{ ns.a }}{{ y }}{{ ns['a'] }}
{% set ns = namespace(a=1) %}{{ 'a' in ns }}
{% set x %}a{{ n }}b{% endset %}{{ x }}{{ x | length }}
{% set x | upper | replace('A', 'z') %}ab{{ n }}{% endset %}{{ x }}
{% set x %}{% set y = 1 %}{% endset %}{{ y is defined }}
{% for i in [1, 2] %}{% set x %}{% if i == 1 %}{% continue %}{% endif %}q{% endset %}{{ x }}{% endfor %}
{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c=4) }}{{ m(b=5) }}{{ m() }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}
{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, z=4) }}
{% macro m(a, a) %}{% endmacro %}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}hi{{ n }}{% endcall %}
{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(x, y) m() %}{{ x }}{{ y }}{% endcall %}
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}
{% macro m(caller=none) %}{{ caller }}{% endmacro %}{{ m() }}
{% macro m(caller) %}{{ caller() }}{% endmacro %}
{% macro m() %}{{ n }}{{ x }}{% endmacro %}{% set x = 3 %}{{ m() }}{% set x = 4 %}{{ m() }}
{% set x = 1 %}{% macro m() %}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}
{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}
{% macro m() %}{{ i }}{% endmacro %}{% for i in [1, 2] %}{{ m() }}{% endfor %}
{% for i in [1, 2] %}{% if i == 1 %}{% macro m() %}{{ i }}!{% endmacro %}{% endif %}{% endfor %}{{ m is defined }}
{% macro fact(k) %}{{ k if k < 2 else k * (fact(k - 1) | int) }}{% endmacro %}{{ fact(5) }}
{% macro loop_forever() %}{{ loop_forever() }}{% endmacro %}{{ loop_forever() }}
{{ m(1) }}{% macro m(a) %}{{ a }}{% endmacro %}
{% macro m(a, b=1) %}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.caller }}{{ m.catch_kwargs }}{{ m }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}
{% set f = range %}{{ f(3) | list }}
{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'x': 2}) }}{{ range(*[1, 3]) | list }}{{ dict(**d) | length }}
{% filter upper %}ab{{ n }}c{% endfilter %}
{% filter replace('a', 'b') | upper %}aXa{% endfilter %}
{% filter length %}abc{% endfilter %}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}
{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}
{% with n = 1, m = n %}{{ n }}{{ m }}{% endwith %}{{ n }}
{% raw %}{{ x }}{% if %}{% endraw %}|
{% raw -%}   a   {%- endraw %}|
a {%- raw %} b {% endraw -%} c
{# comment #}a{#- c -#} b {# {{ x }} {% if #}c
a {#- x #} b {# y -#} c
a\n  {# x #}  \nb
{% if n > 5 %}a{% elif n > 3 %}b{% else %}c{% endif %}
{% if no %}a{% elif no %}b{% elif yes %}c{% else %}d{% endif %}
{% if nil %}a{% endif %}{% if '' %}b{% endif %}{% if [] %}c{% endif %}{% if {} %}d{% endif %}{% if 0.0 %}e{% endif %}{% if range(0) %}f{% endif %}{% if undefined_x %}g{% endif %}{% if ns %}h{% endif %}
a\n{% if yes %}\nb\n{% endif %}\nc
a\n  {% if yes %}  \nb\n  {% endif %}\nc
a\n  {%- if yes -%}  \nb\n  {%- endif -%}\nc
a\n  {%+ if yes +%}\nb\n  {%+ endif %}\nc
  {% if yes %}x{% endif %}  
  {{ n }}\n  {{- n -}}  \n  x
a {{- n }} b {{ n -}} c
{{+ n }}
{% set x = 1 %}\n{% set y = 2 -%}\n\n{{ x }}{{ y }}\n
\n\n{% if yes %}\n\nx\n\n{% endif %}\n\n
x\r\n{% if yes %}\r\ny\r\n{% endif %}z\r
{{ 'a\r\nb' | length }}{{ 'a\nb' }}
{% generation %}a{{ n }}{% endgeneration %}
a{% generation %}é{{ uni }}{% endgeneration %}b{% generation %}{% endgeneration %}
{% for m in list %}u{% generation %}{{ m }}{% set q = m %}{{ q }}{% endgeneration %}{{ q is defined }}{% endfor %}
{% for m in list %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
{% set x = 1 %}{% generation %}{{ x }}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}
{% print 1, 2 %}{% print n %}
{% set cy = cycler('a', 'b', 'c') %}{{ cy.next() }}{{ cy.next() }}{{ cy.current }}{{ cy.reset() }}{{ cy.next() }}
{% set j = joiner(', ') %}{% for x in list %}{{ j() }}{{ x }}{% endfor %}
{% set g = list | map('string') %}{{ g | list }}{{ g | list }}
{% set g = list | select('odd') %}{{ g | first }}{{ g | list }}
{% set g = list | map('nope_filter') %}x
{% set s = 'a' %}{% for x in list %}{% set s = s ~ x %}{% endfor %}{{ s }}
{% for x in list | sort | reverse %}{{ x }}{{ loop.length }}{% endfor %}
{% for g in users | groupby('age') %}{{ g.grouper }}:{{ g.list | map(attribute='name') | join(',') }}{{ g[0] }};{% endfor %}
{% for age, members in users | groupby('age') %}{{ age }}{{ members | length }}{% endfor %}
{% for x in range(3) %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}
{{ messages[0].content }}
{{ users[0].name.upper()[::-1] | lower ~ '!' }}
{{ users | map(attribute='name') | map('lower') | select('in', ['bob', 'cy']) | join('+') }}
{{ (users | selectattr('name', 'eq', 'Bob') | first).age }}
{{ users[0]['in']['x'] + users[1]['in'].x }}
{{ {'a': {'b': [10, 20]}}['a'].b[-1] }}
{{ [1, 2, 3,] }}{{ {'a': 1,} }}{{ (1, 2,) }}
{{ 1 }}}{{ 2 }}{{{'a': 1}}}
{{ {'a': 1} }}{{ {'x': {'y': 1}}.x.y }}
{{ "}}" }}{{ '%}' }}{% if '%}' %}x{% endif %}
{{ ( 1 + 2 ) * 3 }}{{ (1) }}{{ (1,)[0] }}
{{ not n == 7 }}{{ not (n == 7) }}{{ -n | abs }}{{ (-n) | abs }}{{ n - -1 }}
{{ 'a' if n is odd else 'b' }}{{ 'a' if text is string and n > 3 }}
{{ n is divisibleby 7 }}{{ n is not divisibleby 3 }}{{ [1, 2] is sequence }}
{{ x is defined and x }}{{ x is defined or 'y' }}
{{ n if n is defined else 0 }}{{ q if q is defined else 'none' }}
{{ d.a }}{{ d['b']['c'] | join('/') }}{{ d.nope | default('N') }}{{ d.nope.deeper | default('N') }}
{{ loop }}
{{ loop.index }}
{{ caller }}
{{ 1 +
 2 }}{%
 if yes %}x{% endif %}
{{
{{ 1
{% if
{% if yes %}
{% for x in %}{% endfor %}
{% for in x %}{% endfor %}
{% endif %}
{% else %}
{% unknown %}
{% if yes %}{% endfor %}
{{ 1 | nope }}
{{ 1 is nope }}
{{ a b }}
{{ 'unterminated }}
{{ (1 }}
{{ [1, 2 }}
{{ 1) }}
{{ a. }}
{{ a..b }}
{{ a[ }}
{{ a[] }}
{{ f(a=1, 2) }}
{{ f(a=1, a=2) }}
{{ }}
{% set %}
{% set x %}
{% macro %}{% endmacro %}
{% include 'x' %}
{% import 'x' as y %}
{% extends 'x' %}
{# unclosed
{% raw %}x
{{ 5 is }}
{{ $ }}
{{ a ? b : c }}
{{ a && b }}
{{ x := 1 }}
{{ 08 }}
{{ 1.5.2 }}
{{ 1..2 }}
{{ 'a'.b.c }}
{{ "\N{BULLET}" }}
{{ text.__class__ }}
{{ text.__class__.__mro__ }}
{{ d.__len__ }}{{ d._x }}
{{ namespace.__init__ }}
{% for loop in list %}{{ loop }}{% endfor %}
{% for x in list %}{% set loop = 1 %}{% endfor %}
{% set loop = 5 %}{{ loop }}{% for x in list %}{{ x }}{% endfor %}
{% set range = 5 %}{{ range }}
{% set text = 'q' %}{{ text }}
{% for text in [1] %}{{ text }}{% endfor %}{{ text }}
{% for x in [1, 2] %}{% set text = text ~ x %}{{ text }}{% endfor %}{{ text }}
{% set a = 1 %}{% for x in [1] %}{% for y in [1] %}{% set a = a + 1 %}{{ a }}{% endfor %}{{ a }}{% endfor %}{{ a }}
{% set a = [1] %}{% set b = a %}{{ a is sameas b }}{{ a == b }}
{% if (n > 5) and (text or no) %}ok{% endif %}{% if n > 5 and not no %}ok{% endif %}
{% for m in users %}{{ m.name }}{{ ' ' if not loop.last }}{% endfor %}
{%- for m in users -%}\n  {{ m.name }}\n{%- endfor -%}
{%if yes%}x{%endif%}{{n}}{%-if yes-%} y {%-endif-%}
{% if yes: %}a{% endif %}
{% for x in list: %}{{ x }}{% endfor %}
{% for x in 1, 2, 3 %}{{ x }}{% endfor %}
{% set t = 1, 2 %}{{ t }}
{{ 1, 2 }}
{{ (1, 2) + (3,) }}{{ [1] * 3 }}
{% filter trim %}   x   {% endfilter %}|{% filter indent(2) %}a\nb{% endfilter %}
{% for c in 'ab' %}{% for d in 'cd' %}{{ c ~ d }} {% endfor %}{% endfor %}{{ d.a }}
"""


def expressions():
    """Parts of a line, alone and up to three of them behind each other: then the later ones are filters, sensible or not."""
    for line in EXPRESSIONS.strip("\n").split("\n"):
        parts = line.split(" | ")
        for count in (1, 2, 3):
            for i in range(len(parts) - count + 1):
                yield " | ".join(parts[i:i + count])


def cases():
    for i, expression in enumerate(expressions()):
        yield "expression %d" % i, "{{ %s }}" % expression, VARIABLES
        yield "truth %d" % i, "{%% if %s %%}T{%% else %%}F{%% endif %%}" % expression, VARIABLES
    for i, line in enumerate(TEMPLATES.strip("\n").split("\n")):
        template = line.replace("\\r", "\r").replace("\\n", "\n")
        yield "template %d" % i, template, VARIABLES
