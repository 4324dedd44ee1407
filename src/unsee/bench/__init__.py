"""Speed and memory against the plain implementation, in one run; `plain` is also the tests' reference."""
