package canary_test

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/canary"
)

func ExamplePolicy_Decide() {
	policy := canary.Policy{For: 2 * time.Minute}
	verdict, cause := policy.Decide(canary.Observation{
		Counted: 90 * time.Second,
		Before:  canary.Counts{"shop": {Responses: 9000, Errors: 3}, "blog": {Responses: 500}},
		After:   canary.Counts{"shop": {Responses: 8000, Errors: 720}, "blog": {Responses: 600, Errors: 1}},
	})
	fmt.Println(verdict)
	fmt.Println(cause)
	// Output:
	// withdrawn
	// backend shop: 720 5xx responses at 8000 responses (9.0%), and 3 at 9000 (0.0%) before
}
