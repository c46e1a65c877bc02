package runtimeapi

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Stat is a row of "show stat": a frontend, a backend or a server. The names in brackets in the
// comments are the columns of HAProxy (management guide, section 9.1). A missing column is zero.
type Stat struct {
	// Proxy is the name of the frontend or backend [pxname]. Server is the name of the server, or
	// "FRONTEND" or "BACKEND" in the row of a whole frontend or backend [svname].
	Proxy, Server string
	// Status is the state in HAProxy's words, such as "UP", "DOWN", "DRAIN (agent)",
	// "MAINT (via nodes/a)", "UP 1/3", "no check" [status].
	Status string
	// Addr is "address:port" [addr]. HAProxy shows it only on sockets of level operator or admin.
	Addr string
	// Tracked names the server that this server tracks, as "backend/server" [tracked]. "" means
	// that this server tracks no server. A server has the health and the state of the server that
	// it tracks.
	Tracked string
	// Weight is the present weight. UserWeight is the weight that the server has after the end of a
	// slow start [weight, uweight].
	Weight, UserWeight int
	// Active is the number of servers of a backend that can get requests, without backup servers
	// [act].
	Active int
	// CheckStatus and AgentStatus are the results of the last health check and agent check, such as
	// "L4OK" and "L7STS" [check_status, agent_status]. CheckDesc and AgentDesc are these results in
	// words [check_desc, agent_desc]. LastCheck and LastAgent are the texts that HAProxy received
	// [last_chk, last_agt].
	CheckStatus, CheckDesc, LastCheck string
	AgentStatus, AgentDesc, LastAgent string
	// Sessions is the current number of sessions, Limit the largest allowed number (0 means no
	// limit), and Total the number since the start [scur, slim, stot].
	Sessions, Limit, Total uint64
	// Requests is the number of HTTP requests since the start [req_tot].
	Requests uint64
	// Responses are the numbers of HTTP responses since the start, by the class of their status:
	// index 1 to 5 for 1xx to 5xx, and 0 for all others [hrsp_1xx to hrsp_5xx, hrsp_other].
	Responses [6]uint64
	// ConnErrors and RespErrors are the numbers of failed connections and of failed responses
	// [econ, eresp].
	//
	// Retries and Redispatches are the numbers of further attempts of a request [wretr, wredis]. After
	// a failed connection, an attempt at another server is a redispatch, and an attempt at the same
	// server is a retry. After all other events of retry-on, each attempt is a retry.
	ConnErrors, RespErrors, Retries, Redispatches uint64
}

// Stats sends "show stat" to a worker and returns all rows, in HAProxy's order.
func (s Socket) Stats(ctx context.Context) ([]Stat, error) {
	answer, err := s.Do(ctx, "show stat")
	if err != nil {
		return nil, err
	}
	return parseStats(answer)
}

// ProxyStats sends "show stat" to a worker and returns only the rows of frontends and backends. If
// there are many servers, it is much faster than Stats.
func (s Socket) ProxyStats(ctx context.Context) ([]Stat, error) {
	answer, err := s.Do(ctx, "show stat -1 3 -1") // frontends are 1, backends 2, servers 4
	if err != nil {
		return nil, err
	}
	return parseStats(answer)
}

// statColumns contains, for each column of "show stat" that Stat uses, the function that sets the
// field of Stat. parseStats finds a column by its name, because its position depends on the version
// of HAProxy.
var statColumns = map[string]func(*Stat, string) error{
	"pxname":       str(func(s *Stat) *string { return &s.Proxy }),
	"svname":       str(func(s *Stat) *string { return &s.Server }),
	"status":       str(func(s *Stat) *string { return &s.Status }),
	"addr":         str(func(s *Stat) *string { return &s.Addr }),
	"tracked":      str(func(s *Stat) *string { return &s.Tracked }),
	"check_status": result(func(s *Stat) *string { return &s.CheckStatus }),
	"check_desc":   str(func(s *Stat) *string { return &s.CheckDesc }),
	"last_chk":     str(func(s *Stat) *string { return &s.LastCheck }),
	"agent_status": result(func(s *Stat) *string { return &s.AgentStatus }),
	"agent_desc":   str(func(s *Stat) *string { return &s.AgentDesc }),
	"last_agt":     str(func(s *Stat) *string { return &s.LastAgent }),
	"weight":       number(func(s *Stat) *int { return &s.Weight }),
	"uweight":      number(func(s *Stat) *int { return &s.UserWeight }),
	"act":          number(func(s *Stat) *int { return &s.Active }),
	"scur":         count(func(s *Stat) *uint64 { return &s.Sessions }),
	"slim":         count(func(s *Stat) *uint64 { return &s.Limit }),
	"stot":         count(func(s *Stat) *uint64 { return &s.Total }),
	"req_tot":      count(func(s *Stat) *uint64 { return &s.Requests }),
	"hrsp_other":   count(func(s *Stat) *uint64 { return &s.Responses[0] }),
	"hrsp_1xx":     count(func(s *Stat) *uint64 { return &s.Responses[1] }),
	"hrsp_2xx":     count(func(s *Stat) *uint64 { return &s.Responses[2] }),
	"hrsp_3xx":     count(func(s *Stat) *uint64 { return &s.Responses[3] }),
	"hrsp_4xx":     count(func(s *Stat) *uint64 { return &s.Responses[4] }),
	"hrsp_5xx":     count(func(s *Stat) *uint64 { return &s.Responses[5] }),
	"econ":         count(func(s *Stat) *uint64 { return &s.ConnErrors }),
	"eresp":        count(func(s *Stat) *uint64 { return &s.RespErrors }),
	"wretr":        count(func(s *Stat) *uint64 { return &s.Retries }),
	"wredis":       count(func(s *Stat) *uint64 { return &s.Redispatches }),
}

func str(field func(*Stat) *string) func(*Stat, string) error {
	return func(s *Stat, v string) error { *field(s) = v; return nil }
}

// result returns a function that stores a value without the prefix "* ". HAProxy writes this prefix
// before the last result of a check while the next check runs.
func result(field func(*Stat) *string) func(*Stat, string) error {
	return func(s *Stat, v string) error { *field(s) = strings.TrimPrefix(v, "* "); return nil }
}

func number(field func(*Stat) *int) func(*Stat, string) (err error) {
	return func(s *Stat, v string) (err error) { *field(s), err = strconv.Atoi(v); return err }
}

func count(field func(*Stat) *uint64) func(*Stat, string) (err error) {
	return func(s *Stat, v string) (err error) { *field(s), err = strconv.ParseUint(v, 10, 64); return err }
}

// parseStats parses the answer to "show stat".
func parseStats(answer string) ([]Stat, error) {
	body, ok := strings.CutPrefix(strings.TrimLeft(answer, "\n"), "# ")
	if !ok {
		return nil, fmt.Errorf("runtimeapi: not a list of stats: %.200q", answer)
	}
	in := csv.NewReader(strings.NewReader(body))
	in.FieldsPerRecord = -1
	in.LazyQuotes = true
	in.ReuseRecord = true
	header, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("runtimeapi: stats: %w", err)
	}
	set := make([]func(*Stat, string) error, len(header))
	names := make([]string, len(header))
	for i, name := range header {
		set[i], names[i] = statColumns[name], name
	}
	if names[0] != "pxname" {
		return nil, fmt.Errorf("runtimeapi: not a list of stats: %.200q", answer)
	}
	var all []Stat
	for {
		row, err := in.Read()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("runtimeapi: stats: %w", err)
		}
		var s Stat
		for i, v := range row {
			if i >= len(set) || set[i] == nil || v == "" {
				continue
			}
			if err := set[i](&s, v); err != nil {
				return nil, fmt.Errorf("runtimeapi: stats: %s of %q/%q: %w", names[i], s.Proxy, s.Server, err)
			}
		}
		all = append(all, s)
	}
}
