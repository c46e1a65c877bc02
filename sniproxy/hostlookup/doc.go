// Package hostlookup finds out where the traffic for a host name goes.
package hostlookup
