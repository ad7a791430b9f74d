"""Conversations and arguments that chat templates are rendered with."""

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a city — now.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "The city's \"name\""},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "array", "items": {"type": "integer"}, "description": "Which days"},
            "either": {"type": ["string", "null"]}},
            "required": ["city"]},
        "return": {"type": "string", "description": "What it is like"}}},
    {"type": "function", "function": {
        "name": "add", "description": "Adds <numbers> & more",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number", "default": 1.5}},
                       "required": ["a", "b"]}}},
]
BARE_TOOLS = [{"name": "ping", "description": "", "parameters": {"type": "object", "properties": {}}}]


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return dict({"role": "assistant", "content": content}, **more)


def system(content):
    return {"role": "system", "content": content}


def call(name, arguments, number="call_0001", **more):
    return dict({"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}, **more)


CALL = call("get_weather", {"city": "Zürich", "unit": "celsius", "days": [1, 2.5, None, True]})
CALL2 = call("add", {"a": 1, "b": -2e-7}, "abcdefghi")
TEXT_CALL = call("add", "{\"a\": 1, \"b\": 2}", "123456789")

CONVERSATIONS = {
    "one": [user("Hi there")],
    "pair": [user("Hi"), assistant("Hello!")],
    "system": [system("You are terse."), user("2+2?"), assistant("4")],
    "turns": [system(" S "), user("a"), assistant("b"), user("c"), assistant("d"), user("e")],
    "many": [m for i in range(6) for m in (user("q%d" % i), assistant("a%d\n" % i))],
    "white": [user("  lead and trail \n"), assistant("\n\n x \t")],
    "empty": [user(""), assistant("")],
    "empty system": [system(""), user("x"), assistant("y")],
    "none": [user("x"), assistant(None)],
    "no content": [user("x"), {"role": "assistant"}],
    "no messages": [],
    "unicode": [user("naïve 日本語 🙂 e\u0301 \u00a0\u2028 ß"), assistant("İı ǆ Σς ﬁ")],
    "markup": [user("<|im_end|> <|eot_id|> [INST] <start_of_turn> </s> {{ x }} {% y %} {# z #}"),
               assistant("<b>&amp;'\"</b> <think>deep</think>\n\nout")],
    "think": [user("q"), assistant("<think>\nhm\n</think>\n\nanswer"), user("more"), assistant("<think>x</think>ok")],
    "reasoning": [user("q"), assistant("answer", reasoning_content="because\nof it"), user("z"),
                  assistant("last", reasoning_content=" r ")],
    "thinking field": [user("q"), assistant("answer", thinking="why", reasoning="no")],
    "parts": [user([{"type": "text", "text": "look"}, {"type": "image"}, {"type": "text", "text": " here"}]),
              assistant([{"type": "text", "text": "seen"}])],
    "parts and url": [user([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "t"}])],
    "system parts": [system([{"type": "text", "text": "sys"}]), user("u"), assistant("a")],
    "call": [user("weather?"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "sunny", "name": "get_weather",
                                                                   "tool_call_id": "call_0001"}, assistant("It is sunny.")],
    "call with words": [user("w"), assistant("let me see", tool_calls=[CALL])],
    "call of nine": [user("w"), assistant("", tool_calls=[CALL2]), {"role": "tool", "content": "3", "name": "add",
                                                                    "tool_call_id": "abcdefghi"}, assistant("3")],
    "call none": [user("w"), assistant(None, tool_calls=[CALL2]), {"role": "tool", "content": {"x": [1, None]}}],
    "two calls": [user("w"), assistant("", tool_calls=[CALL, CALL2]), {"role": "tool", "content": "a"},
                  {"role": "tool", "content": "b"}, assistant("done")],
    "text call": [user("w"), assistant("", tool_calls=[TEXT_CALL]), {"role": "tool", "content": "3",
                                                                     "tool_call_id": "123456789"}, user("so?")],
    "bare call": [user("w"), assistant("", tool_calls=[{"name": "add", "arguments": {"a": 1}}]),
                  {"role": "ipython", "content": "r"}],
    "no calls": [user("w"), assistant("x", tool_calls=[])],
    "null calls": [user("w"), assistant("x", tool_calls=None)],
    "tool first": [{"role": "tool", "content": "x"}, user("y")],
    "assistant first": [assistant("first"), user("u")],
    "two users": [user("a"), user("b")],
    "two assistants": [user("a"), assistant("b"), assistant("c")],
    "late system": [user("a"), system("late"), assistant("b")],
    "two systems": [system("a"), system("b"), user("c")],
    "odd roles": [{"role": "human", "content": "a"}, {"role": "gpt", "content": "b"}],
    "developer": [{"role": "developer", "content": "dev"}, user("u"), assistant("a")],
    "no role": [{"content": "a"}],
    "number": [user(3), assistant(2.50)],
    "list of texts": [user(["a", "b"]), assistant("c")],
    "dict content": [user({"text": "a"}), assistant("c")],
    "named": [{"role": "user", "name": "bob", "content": "hi"}, assistant("x", prefix=True)],
    "long": [user("word " * 500), assistant("x\n" * 300)],
}
ARGUMENTS = [
    {},
    {"add_generation_prompt": True},
    {"tools": TOOLS},
    {"tools": TOOLS, "add_generation_prompt": True, "enable_thinking": False},
    {"tools": BARE_TOOLS, "date_string": "26 Jul 2024", "tools_in_user_message": False},
    {"add_generation_prompt": True, "enable_thinking": True, "thinking": True},
    {"add_generation_prompt": True, "enable_thinking": False, "documents": [{"title": "t", "text": "x"}]},
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def inputs():
    for title, messages in CONVERSATIONS.items():
        for i, arguments in enumerate(ARGUMENTS):
            variables = dict(SPECIAL, messages=messages, tools=None, documents=None, add_generation_prompt=False)
            yield "%s/%d" % (title, i), dict(variables, **arguments)
