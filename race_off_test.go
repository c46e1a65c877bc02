//go:build !race

package headgate_test

const raceFlag = "-race=false"
