// Makes the Go compiler accept a function without a body.
