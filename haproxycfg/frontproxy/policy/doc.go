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
// The name of a field is the name in [frontproxy.Settings] with a small first letter, but
// retryBudget sets RetryPercent. A time has a unit, such as "200ms" or "15s". A percentage ends
// with "%".
//
// The values off and 0 switch a setting off. In [frontproxy.Settings], 0 means the default; here it
// does not. The fields pending and retryBudget refuse 0, and off means no limit in these two
// fields.
//
// policy.schema.json, in the directory of this package, is a JSON Schema of the file for editors.
// It does not express all rules.
//
// # Faults
//
// If one field is faulty, Parse and Read reject the whole file. Their error joins an [Error] with
// file, line and field for each fault. Unknown fields, repeated fields, aliases and a second
// document are faults.
//
// # What it does not do
//
// The package does not notice later changes of the file.
package policy
