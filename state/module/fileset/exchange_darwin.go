package fileset

// swapNames exchanges two names.
func swapNames(a, b string) error { return swapNamesSlowly(a, b) }
