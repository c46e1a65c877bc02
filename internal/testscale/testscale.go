// Package testscale sets how long the random and statistical tests run. make test needs short runs,
// and make ci-full repeats them with more rounds:
//
//	for seed := range testscale.Of(50) {
//		...
//	}
//
// What it does not do: the tests of HAProxy's reloads have the variable HEADGATE_RELOADS, because a
// reload is slow.
package testscale

import (
	"os"
	"strconv"
)

// Variable is the environment variable with the factor, a whole number from 1.
const Variable = "HEADGATE_TEST_SCALE"

// Of returns n times the factor in HEADGATE_TEST_SCALE. Without this variable it returns n. It panics
// if the variable has any other value.
func Of(n int) int {
	text := os.Getenv(Variable)
	if text == "" {
		return n
	}
	factor, err := strconv.Atoi(text)
	if err != nil || factor < 1 {
		panic(Variable + " is not a whole number from 1: " + strconv.Quote(text))
	}
	return n * factor
}
