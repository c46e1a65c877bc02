package journal_test

import (
	"fmt"
	"os"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Example records two changes, and finds what was in force between them.
func Example() {
	dir, err := os.MkdirTemp("", "journal-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	j := &journal.Dir{Path: dir}
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for i, host := range []string{"old.example.com", "new.example.com"} {
		entry := journal.Entry{
			Time: noon.Add(time.Duration(i) * time.Hour), Result: journal.Applied, ID: fmt.Sprint("config-", i),
			Changes: kube.Changes{Causes: []kube.Cause{{Object: "Route " + host + "/", What: "added"}}},
		}
		state := journal.State{Routes: []routes.Route{{Host: host, Path: "/"}}}
		if err := j.Append(entry, &state, nil); err != nil {
			panic(err)
		}
	}
	past, err := j.At(noon.Add(30 * time.Minute))
	if err != nil {
		panic(err)
	}
	fmt.Println(past.Entry)
	fmt.Println(past.State.Routes[0].Host, "until", past.Next.Time)
	// Output:
	// 2026-05-01T12:00:00.000Z applied config-0: 0 added, 0 removed, 0 changed servers; Route old.example.com/: added
	// old.example.com until 2026-05-01 13:00:00 +0000 UTC
}
