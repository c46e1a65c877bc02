package fleet

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/headgate/headgate/haproxycfg/routes"
)

// maxUnpacked is the largest size of unpacked routes in bytes. 400,000 routes, which is the limit of
// an edge, have about 150 MB.
const maxUnpacked = 512 << 20

// Pack returns routes as JSON, compressed with gzip, for Hold.Routes and Canary.Routes. 10,000
// routes to 1,000 services have about 80 kB (go test -bench Pack). Equal routes give equal bytes.
func Pack(list []routes.Route) ([]byte, error) {
	if list == nil {
		list = []routes.Route{}
	}
	var out bytes.Buffer
	zip, _ := gzip.NewWriterLevel(&out, gzip.BestCompression) // the level is valid
	err := json.NewEncoder(zip).Encode(list)
	if err == nil {
		err = zip.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("fleet: routes: %w", err)
	}
	return out.Bytes(), nil
}

// Table returns the routes of the hold. If this version of the program cannot serve a route, the
// table lacks the route, and the second result contains a problem for it.
func (h *Hold) Table() (routes.Table, []routes.Problem, error) { return tableOf(h.Routes) }

// Table returns the approved routes. If this version of the program cannot serve a route, the table
// lacks the route, and the second result contains a problem for it.
func (c *Canary) Table() (routes.Table, []routes.Problem, error) { return tableOf(c.Routes) }

func tableOf(packed []byte) (routes.Table, []routes.Problem, error) {
	list, err := unpack(packed, maxUnpacked)
	if err != nil {
		return routes.Table{}, nil, err
	}
	var tables []routes.Table
	var problems []routes.Problem
	for part := range slices.Chunk(list, routes.MaxRoutes) {
		table, further := routes.New(part...)
		tables, problems = append(tables, table), append(problems, further...)
	}
	table, conflicts := routes.Merge(tables...)
	return table, append(problems, conflicts...), nil
}

func unpack(data []byte, limit int64) ([]routes.Route, error) {
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("fleet: routes: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(zip, limit+1))
	if err != nil {
		return nil, fmt.Errorf("fleet: routes: %w", err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("fleet: the routes have more than %d bytes", limit)
	}
	var list []routes.Route
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("fleet: routes: %w", err)
	}
	return list, nil
}
