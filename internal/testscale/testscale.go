// Package testscale sets how many rounds the random and statistical tests run. "make test" runs few
// rounds, so that it is fast. "make ci-full" sets HEADGATE_TEST_SCALE, and runs more rounds:
//
//	for seed := range testscale.Of(50) {
//		...
//	}
//
// What it does not do: the package does not set how often tests reload HAProxy, because a reload is
// slow. These tests read the variable HEADGATE_RELOADS instead.
package testscale

import (
	"os"
	"strconv"
)

// Variable is the name of the environment variable with the factor by which the function Of
// multiplies. The factor is a whole number, at least 1.
const Variable = "HEADGATE_TEST_SCALE"

// Of returns n times the factor in HEADGATE_TEST_SCALE. Without this variable, Of returns n. Of
// panics if the value of the variable is not a whole number of at least 1.
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
