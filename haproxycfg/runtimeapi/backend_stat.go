package runtimeapi

import (
	"context"
	"fmt"
)

// BackendStat returns the row of a backend in the answer to "show stat". HAProxy sends only this
// row, even if there are many backends and servers.
func (s Socket) BackendStat(ctx context.Context, backend string) (Stat, error) {
	answer, err := s.Do(ctx, "show stat "+backend+" 2 -1") // 2 selects the rows of backends, -1 selects every server ID
	if err != nil {
		return Stat{}, err
	}
	rows, err := parseStats(answer)
	if err != nil {
		return Stat{}, err
	}
	for _, r := range rows {
		if r.Proxy == backend && r.Server == "BACKEND" {
			return r, nil
		}
	}
	return Stat{}, fmt.Errorf("runtimeapi: there is no backend %q", backend)
}

// ServerStats returns the rows of a backend's servers in the answer to "show stat", in HAProxy's
// order. HAProxy sends only these rows, even if there are many backends.
func (s Socket) ServerStats(ctx context.Context, backend string) ([]Stat, error) {
	answer, err := s.Do(ctx, "show stat "+backend+" 4 -1") // 4 selects the rows of servers, -1 selects every server ID
	if err != nil {
		return nil, err
	}
	return parseStats(answer)
}
