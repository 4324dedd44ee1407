"""Speed and memory against the plain implementation, in one run; `plain` is also the reference the tests compare with."""
