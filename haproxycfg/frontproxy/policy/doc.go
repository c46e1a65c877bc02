// Package policy reads the settings of a front proxy from a YAML file.
//
//	settings, err := policy.Read("policy.yaml")
//	if err != nil {
//		// report it, and keep the settings of the last good file
//	}
//
// A file looks like this. Every field is optional, and an empty file means all defaults:
//
//	server: 5s
//	retries: 1
//	retryBudget: 10%
//	ejectErrors: 5
//	panicBelow: off
//	perPod: 64
//	limits:
//	  requests: 400
//	  source: {requests: 50}
//
// A field has the name of its field in [frontproxy.Settings], with a small first letter. The
// exception is retryBudget, which sets RetryPercent. A time has a unit, such as "200ms" or "15s". A
// percentage ends with "%". The word off, or 0, switches a setting off, as a negative number does
// in Settings. The fields pending and retryBudget refuse 0; in these fields, off means no limit. To
// get the default, leave the field out: 0 does not mean the default.
//
// # Faults
//
// One faulty field rejects the whole file, because half of a policy could be worse than the last
// good policy. The errors of Parse and Read join an [Error] with file, line and field for each
// fault. Unknown fields, repeated fields, aliases and further documents are faults.
//
// # What it does not do
//
// The package does not follow the file.
package policy
