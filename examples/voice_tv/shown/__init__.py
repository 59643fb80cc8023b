"""What `examples/demo_voice.py` is made of: the pool, the people who speak to it, and what is seen of both."""
