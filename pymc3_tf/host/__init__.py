"""What a program that XLA compiled calls on the host: C++ that is built on first use."""
