// Package journal stores the last changes of a configuration in a directory: when each change was
// applied or refused, what caused it, what it changed, and which routes and servers were in force
// after it.
//
//	j := &journal.Dir{Path: "/var/lib/headgate/journal"}
//	err := j.Append(journal.Entry{Time: now, Result: journal.Applied, ID: id, Changes: changes}, &state, nil)
//	…
//	entries, problems, err := j.List()
//	past, err := j.At(now.Add(-time.Hour)) // what was in force an hour ago
//
// Package controller appends an entry after each change. The commands "terminator journal" and
// "terminator explain -at" read them.
//
// # Files
//
// Each entry is a file of its own, whose name is the time of the entry. The first line is the Entry
// as JSON. After it, an entry of an applied change has the State as JSON, compressed with gzip.
//
// Append writes an entry as a whole or not at all. If a file is damaged, List and At report a
// problem for it and read all other files.
//
// Append removes the oldest entries beyond MaxEntries and MaxBytes.
//
// # Concurrency
//
// Several goroutines and processes may read a Dir while one process appends to it. Only one process
// may append.
//
// # What it does not do
//
// The package does not record the states of servers in HAProxy. The State of an entry does not
// contain the shifts.
package journal
