//go:build race

package headgate_test

// raceFlag is the flag for builds in these tests. It is the flag with which these tests were built,
// so that the go command compiles no package twice.
const raceFlag = "-race=true"
