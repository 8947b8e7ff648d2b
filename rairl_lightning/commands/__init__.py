"""The commands beside those of Lightning; one module each, with one function of the command's name.

The function's arguments are the command's options and its docstring is their help: types, units and ranges belong
there. A new command is a module and a line in :data:`COMMANDS`.
"""

COMMANDS: dict[str, str] = {
    "plan": "what fit would take in memory and time, before anything is loaded, and which knob to turn",
    "rerank": "choose among N traces of a question by a trained reward, beside every other way to choose",
    "score": "what a trained reward says of every trace of a file: trace, steps, tokens",
    "localise": "where traces first go wrong, according to a trained reward, and how often it is right",
    "inspect": "one trace in the terminal, token by token, in the colours of its reward",
    "export": "a trained policy or reward as an ordinary Hugging Face model, with a card",
    "report": "one HTML page about a run: results, curves, findings, traces in the colours of their reward",
}
"""Commands in the order of the help, and what each does, in one line."""
