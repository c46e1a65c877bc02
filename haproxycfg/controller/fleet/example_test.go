package fleet_test

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/fleet"
	"github.com/headgate/headgate/haproxycfg/routes"
)

func Example() {
	packed, err := fleet.Pack([]routes.Route{{
		Host: "api.example.com", Path: "/",
		Backends: []routes.Backend{{Ref: routes.Ref{Cluster: "eu-1", Namespace: "media", Service: "tracks", Port: "http"}, Weight: 100}},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	state := fleet.State{Hold: &fleet.Hold{ID: "5f0c", Applied: noon, Since: noon.Add(time.Hour), By: "ada", Routes: packed}}
	data, err := state.AppendJSON(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	again, err := fleet.Parse(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	table, _, err := again.Hold.Table()
	fmt.Println(again.Hold, table.Hosts(), err)
	// Output:
	// held since 2026-05-01T13:00:00Z by ada: the routes of 2026-05-01T12:00:00Z, configuration 5f0c [api.example.com] <nil>
}
