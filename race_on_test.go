//go:build race

package headgate_test

// raceFlag builds as these tests are built, so that nothing is compiled twice.
const raceFlag = "-race=true"
