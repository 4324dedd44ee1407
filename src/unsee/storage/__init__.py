"""Where artifacts live. `artifact`: what a complete one is; `store`: file:// and s3://; `transfer`: between the two."""
