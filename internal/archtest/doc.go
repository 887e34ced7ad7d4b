// Package archtest holds the rules of the house as tests; it has no code besides.
//
// They are: who may import whom, in one table (imports_test.go) in which every folder with Go files has a row; what the
// packages that others import may show, which is no type of the script engine and not more names than a reader can keep
// in mind (exports_test.go); and how packages are named and introduced (names_test.go). A failure says what to do.
//
// The tests read the source, all of it, whatever its build tags. Folders with a go.mod of their own, testdata, and
// those whose names begin with a dot or an underscore are not part of the house.
package archtest
