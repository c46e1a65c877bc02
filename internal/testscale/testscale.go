// Package testscale sets how many rounds the random and statistical tests run: few in "make test",
// and more in "make ci-full", which sets HEADGATE_TEST_SCALE.
//
//	for seed := range testscale.Of(50) {
//		...
//	}
//
// Tests that reload HAProxy, which is slow, read the variable HEADGATE_RELOADS instead.
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
