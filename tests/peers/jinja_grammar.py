"""Random small templates over the grammar, from a seed."""
import random

VARIABLES = {
    "a": 1, "b": -3, "c": 2.5, "s": "Hello wörld", "t": " x,y ", "e": "", "l": [3, 1, 2], "m": ["b", "A", "c"], "z": [],
    "d": {"k": 1, "v": "w", "x": [1, 2]}, "n": None, "y": True, "o": False,
    "u": [{"k": "p", "v": 2}, {"k": "Q", "v": 1, "x": [5]}, {"k": "r"}],
}
NAMES = list(VARIABLES) + ["q", "r", "w"]
FILTERS = ["trim", "upper", "lower", "title", "capitalize", "length", "list", "first", "last", "join", "join(', ')", "string", "int",
           "float", "abs", "round", "round(1)", "sort", "sort(reverse=true)", "reverse", "unique", "sum", "min", "max", "tojson",
           "tojson(indent=1)", "default('D')", "default('D', true)", "replace('l', 'L')", "indent(2)", "wordcount", "items",
           "dictsort", "map('upper')", "map('string')", "map(attribute='k')", "map(attribute='x.0')", "select", "reject",
           "select('odd')", "selectattr('v')", "selectattr('k', 'eq', 'p')", "rejectattr('x', 'defined')", "select('string')",
           "batch(2)", "slice(2)", "groupby('v')", "e", "count", "center(9)", "truncate(5, true)", "safe", "urlencode",
           "format(1)", "attr('k')", "sum(attribute='v')", "unique(attribute='k')", "sort(attribute='k')", "map('length')"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "sequence",
         "iterable", "odd", "even", "lower", "upper", "divisibleby 2", "eq 1", "ne 1", "gt 1", "lt 2", "ge 1", "le 1", "in [1, 2]",
         "sameas true", "callable", "escaped", "equalto(s)", "in s"]
METHODS = ["upper()", "lower()", "strip()", "lstrip()", "rstrip('dl')", "split()", "split(',')", "split('l', 1)", "rsplit('l', 1)",
           "title()", "capitalize()", "startswith('H')", "endswith(('d', 'x'))", "find('l')", "count('l')", "replace('l', '')",
           "items()", "keys()", "values()", "get('k')", "get('zz', 4)", "splitlines()", "join(m)", "index(1)", "zfill(9)",
           "removeprefix('He')", "partition('l')", "format(1, 2)", "isdigit()", "append(1)", "update({})", "islower()", "copy()"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and", "or"]
TEXTS = ["x", " ", "\n", "a\n  ", "  b", "\n\n", "é", "<|im|>", "}", "{", "%"]


class Grammar:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.loops = 0

    def pick(self, *makers):
        return self.random.choice(makers)()

    def name(self):
        return self.random.choice(NAMES + ["loop"] * (self.loops > 0))

    def literal(self):
        return self.random.choice(["0", "1", "2", "-1", "1.5", "7", "''", "'ab'", "\"it's\"", "'é'", "true", "false", "none", "[]", "{}",
                                   "(1,)", "'%s'", "'a\\nb'", "1e3", "()"])

    def key(self):
        """One that can be a key: the public engine refuses a constant that cannot, even where nothing reads it."""
        return self.random.choice(["0", "1", "1.0", "'ab'", "'k'", "''", "true", "none", "(1,)", "'é'", "a", "s", "n"])

    def expression(self, depth=3):
        if depth == 0 or self.random.random() < 0.2:
            return self.name() if self.random.random() < 0.7 else self.literal()
        deeper = lambda: self.expression(depth - 1)  # noqa: E731
        kind = self.random.randrange(16)
        if kind == 0:
            return "%s.%s" % (self.name(), self.random.choice(["k", "v", "x", "items", "get", "index", "last", "first", "length", "zz"]))
        if kind == 1:
            return "%s[%s]" % (deeper() if self.random.random() < 0.3 else self.name(), deeper())
        if kind == 2:
            parts = [self.random.choice(["", "0", "1", "-1", "2", "-2", "9", "a"]) for _ in range(3)]
            return "%s[%s:%s%s]" % (self.name(), parts[0], parts[1], ":" + parts[2] if self.random.random() < 0.4 else "")
        if kind in (3, 4):
            return "(%s) | %s" % (deeper(), self.random.choice(FILTERS))
        if kind == 5:
            return "%s | %s | %s" % (self.name(), self.random.choice(FILTERS), self.random.choice(FILTERS))
        if kind == 6:
            return "%s is %s%s" % (self.name(), self.random.choice(["", "not "]), self.random.choice(TESTS))
        if kind in (7, 8):
            return "%s.%s" % (self.random.choice(["s", "t", "d", "l", "u[0]", "(%s)" % deeper()]), self.random.choice(METHODS))
        if kind in (9, 10):
            return "%s %s %s" % (deeper(), self.random.choice(OPERATORS), deeper())
        if kind == 11:
            return "(%s if %s%s)" % (deeper(), deeper(), " else " + deeper() if self.random.random() < 0.7 else "")
        if kind == 12:
            return "[%s]" % ", ".join(deeper() for _ in range(self.random.randrange(4)))
        if kind == 13:
            return "{%s}" % ", ".join("%s: %s" % (self.key(), deeper()) for _ in range(self.random.randrange(3)))
        if kind == 14:
            return "%s(%s)" % (self.random.choice(["not ", "-", "range", "dict", "f", "g"]), deeper())
        return "(%s, %s)" % (deeper(), deeper())

    def tag(self, text):
        left, right = self.random.choice(["", "", "", "-", "+"]), self.random.choice(["", "", "", "-", "+"])
        return "{%%%s %s %s%%}" % (left, text, right)

    def text(self):
        return self.random.choice(TEXTS)

    def output(self):
        return "{{%s %s %s}}" % (self.random.choice(["", "", "-"]), self.expression(), self.random.choice(["", "", "-"]))

    def assign(self):
        return self.tag("set %s = %s" % (self.random.choice(["q", "r", "w", "a", "s", "q, r", "ns.p"]), self.expression()))

    def block_set(self, depth):
        return self.tag("set %s%s" % (self.random.choice("qrw"), self.random.choice(["", " | upper"]))) + self.body(depth) + self.tag("endset")

    def condition(self, depth):
        parts = [self.tag("if " + self.expression()), self.body(depth)]
        if self.random.random() < 0.3:
            parts += [self.tag("elif " + self.expression()), self.body(depth)]
        if self.random.random() < 0.5:
            parts += [self.tag("else"), self.body(depth)]
        return "".join(parts) + self.tag("endif")

    def loop(self, depth):
        source = self.random.choice(["l", "m", "u", "d", "d.items()", "range(3)", "z", "s", "[(1, 2), (3, 4)]", self.expression(2)])
        head = "for %s in %s" % (self.random.choice(["q", "r", "w", "q, r", "a"]), source)
        if self.random.random() < 0.25:
            head += " if " + self.expression(2)
        if self.random.random() < 0.1:
            head += " recursive"
        self.loops += 1
        inside = self.body(depth)
        if self.random.random() < 0.3:
            inside += self.tag("if %s" % self.expression(1)) + self.tag(self.random.choice(["break", "continue"])) + self.tag("endif")
        inside += self.random.choice(["", "{{ loop.index }}", "{{ loop.last }}", "{{ loop.nextitem }}", "{{ loop.length }}",
                                      "{{ loop.cycle(1, 2) }}", "{{ loop.changed(a) }}", "{{ loop.revindex0 }}", "{{ loop.previtem }}"])
        self.loops -= 1
        otherwise = self.tag("else") + self.body(depth) if self.random.random() < 0.2 else ""
        return self.tag(head) + inside + otherwise + self.tag("endfor")

    def macro(self, depth):
        name = self.random.choice("fg")
        parameters = self.random.choice(["", "q", "q, r=a", "q=1, r=q", "w=none"])
        return self.tag("macro %s(%s)" % (name, parameters)) + self.body(depth) + self.random.choice(
            ["", "{{ caller() }}", "{{ varargs }}", "{{ kwargs }}"]) + self.tag("endmacro")

    def call(self):
        return "{{ %s(%s) }}" % (self.random.choice("fg"), self.random.choice(["", "1", "1, 2", "q=3", "a, r=b", "1, 2, 3"]))

    def call_block(self, depth):
        return self.tag("call%s %s(%s)" % (self.random.choice(["", "(q)"]), self.random.choice("fg"), self.random.choice(["", "1"]))) + \
            self.body(depth) + self.tag("endcall")

    def wrapped(self, depth):
        opener, closer = self.random.choice([("filter upper", "endfilter"), ("with q = a, r = q", "endwith"), ("generation", "endgeneration"),
                                             ("filter indent(2)", "endfilter"), ("with", "endwith")])
        return self.tag(opener) + self.body(depth) + self.tag(closer)

    def statement(self, depth):
        if depth == 0:
            return self.pick(self.text, self.output, self.output, self.assign, self.call)
        inner = depth - 1
        return self.pick(self.text, self.text, self.output, self.output, self.output, self.assign, self.assign, self.call,
                         lambda: self.condition(inner), lambda: self.condition(inner), lambda: self.loop(inner),
                         lambda: self.loop(inner), lambda: self.macro(inner), lambda: self.call_block(inner),
                         lambda: self.wrapped(inner), lambda: self.block_set(inner), lambda: "{#- note #}",
                         lambda: self.tag("raw") + "{{ q }}" + self.tag("endraw"))

    def body(self, depth):
        return "".join(self.statement(depth) for _ in range(self.random.randrange(1, 4)))

    def template(self):
        start = "{% set ns = namespace(p=1) %}" if self.random.random() < 0.5 else ""
        return start + "".join(self.statement(3) for _ in range(self.random.randrange(1, 6)))


def cases(seed, count):
    """The public engine says "not all errors at once", so a template that fails early hides what follows: many are short."""
    for i in range(count):
        grammar = Grammar("%d.%d" % (seed, i))
        if i % 3 == 0:
            yield "seed %d.%d" % (seed, i), "{{ %s }}" % grammar.expression(4), VARIABLES
        elif i % 3 == 1:
            yield "seed %d.%d" % (seed, i), grammar.statement(2), VARIABLES
        else:
            yield "seed %d.%d" % (seed, i), grammar.template(), VARIABLES
