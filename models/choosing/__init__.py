"""Which stack to run: a question, the evidence there is, and the answer with what it rests on."""
