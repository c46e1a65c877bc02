package runtimeapi

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ServerState is a row of "show servers state": the state of a server in the running HAProxy. In
// the comments, the names in brackets are the columns (management guide, section 9.3).
type ServerState struct {
	// Backend and Name are the names of the backend and the server [be_name, srv_name]. BackendID
	// and ID are their numbers [be_id, srv_id].
	Backend, Name string
	BackendID, ID int
	// Addr is the address and port [srv_addr, srv_port]. If the server has no address yet, or its
	// address is a Unix socket, Addr.Addr() is the zero netip.Addr.
	Addr netip.AddrPort
	// FQDN is the DNS name that HAProxy resolves to find the address [srv_fqdn]. It is "" for a
	// server with an IP address.
	FQDN string
	// Op says whether the server is up [srv_op_state].
	Op OpState
	// Admin says who has taken the server out of service; 0 means nobody [srv_admin_state].
	Admin AdminState
	// Weight is the last weight that an agent or a command has set. InitialWeight is the weight of
	// the server in the configuration, or in the command that added it [srv_uweight, srv_iweight].
	// Both are 0 to 256.
	Weight, InitialWeight int
	// Since is the time since the last change of Op or Admin, in whole seconds
	// [srv_time_since_last_change].
	Since time.Duration
	// Check and Agent are the states of the health check and the agent check [srv_check_state,
	// srv_agent_state].
	Check, Agent CheckState
	// CheckStatus, CheckResult and CheckHealth describe the last health check, by the numbers that
	// HAProxy's source defines [srv_check_status, srv_check_result, srv_check_health].
	CheckStatus, CheckResult, CheckHealth int
}

// OpState is the operational state of a server.
type OpState int

// These are the operational states. A server in maintenance is Stopped.
const (
	Stopped  OpState = iota // down: it gets no requests
	Starting                // up, in its slow start
	Running                 // up
	Stopping                // up, but it gets only requests with a persistence cookie
)

// AdminState is a set of flags. 0 means that nobody has taken the server out of service.
type AdminState int

// The flags of an AdminState.
const (
	ForcedMaint     AdminState = 1 << iota // maintenance by a command or by "disabled" in the configuration
	InheritedMaint                         // maintenance of the server that this one tracks
	ConfiguredMaint                        // the configuration has "disabled"; a command "state ready" does not remove this flag
	ForcedDrain                            // drain by a command or an agent
	InheritedDrain                         // drain of the server that this one tracks
	UnresolvedMaint                        // maintenance because DNS has no address
	HostnameMaint                          // maintenance because a command has set an unusable DNS name
)

// CheckState is a set of flags about a health check or an agent check.
type CheckState int

// The flags of a CheckState.
const (
	CheckRunning    CheckState = 1 << iota // a check is in progress
	CheckConfigured                        // the server has such a check
	CheckEnabled                           // HAProxy makes the checks
	CheckPaused                            // HAProxy makes no checks while the server is in maintenance
)

// Servers sends "show servers state" and returns all rows, in HAProxy's order. A backend without
// servers has no row.
func (s Socket) Servers(ctx context.Context) ([]ServerState, error) {
	answer, err := s.Do(ctx, "show servers state")
	if err != nil {
		return nil, err
	}
	return ParseServersState(answer)
}

// stateColumns are the columns that ParseServersState reads. The constants below are the indexes of
// the columns in stateColumns.
var stateColumns = [...]string{
	"be_id", "be_name", "srv_id", "srv_name", "srv_addr", "srv_op_state", "srv_admin_state", "srv_uweight", "srv_iweight",
	"srv_time_since_last_change", "srv_check_status", "srv_check_result", "srv_check_health", "srv_check_state",
	"srv_agent_state", "srv_fqdn", "srv_port",
}

const (
	colBackendID = iota
	colBackend
	colID
	colName
	colAddr
	colOp
	colAdmin
	colWeight
	colInitialWeight
	colSince
	colCheckStatus
	colCheckResult
	colCheckHealth
	colCheck
	colAgent
	colFQDN
	colPort
)

// ParseServersState parses the answer to "show servers state", or the text of a state file. It
// returns an error if a row is incomplete or has text in place of a number.
func ParseServersState(text string) ([]ServerState, error) {
	text = strings.TrimSpace(text)
	version, rest, _ := strings.Cut(text, "\n")
	header, rows, _ := strings.Cut(rest, "\n")
	names := strings.Fields(strings.TrimPrefix(header, "#"))
	if strings.TrimSpace(version) != "1" || !strings.HasPrefix(header, "#") {
		return nil, fmt.Errorf("runtimeapi: not a servers state: %.200q", text)
	}
	var at [len(stateColumns)]int // the position of each column in a row
	for i, column := range stateColumns {
		at[i] = -1
		for j, name := range names {
			if name == column {
				at[i] = j
			}
		}
		if at[i] < 0 {
			return nil, fmt.Errorf("runtimeapi: servers state: no column %s", column)
		}
	}
	all := make([]ServerState, 0, strings.Count(rows, "\n")+1)
	words := make([]string, 0, len(names))
	for line := range strings.Lines(rows) {
		words = appendFields(words[:0], line)
		if len(words) == 0 {
			continue
		}
		if len(words) < len(names) {
			return nil, fmt.Errorf("runtimeapi: servers state: a row with %d columns instead of %d: %.200q", len(words), len(names), line)
		}
		var s ServerState
		if err := s.set(words, &at); err != nil {
			return nil, fmt.Errorf("runtimeapi: servers state: %w: %.200q", err, line)
		}
		all = append(all, s)
	}
	return all, nil
}

// appendFields appends the words of the line to the slice "words". It allocates no memory if the
// slice has enough capacity.
func appendFields(words []string, line string) []string {
	for {
		word, rest := cutWord(line)
		if word == "" {
			return words
		}
		words, line = append(words, word), rest
	}
}

// cutWord returns the first word of a text, and the text after it.
func cutWord(text string) (word, rest string) {
	from := 0
	for from < len(text) && text[from] <= ' ' {
		from++
	}
	to := from
	for to < len(text) && text[to] > ' ' {
		to++
	}
	return text[from:to], text[to:]
}

func (s *ServerState) set(words []string, at *[len(stateColumns)]int) error {
	s.Backend, s.Name = words[at[colBackend]], words[at[colName]]
	var since, port int
	for _, n := range [...]struct {
		column int
		to     *int
	}{
		{colBackendID, &s.BackendID},
		{colID, &s.ID},
		{colOp, (*int)(&s.Op)},
		{colAdmin, (*int)(&s.Admin)},
		{colWeight, &s.Weight},
		{colInitialWeight, &s.InitialWeight},
		{colSince, &since},
		{colCheckStatus, &s.CheckStatus},
		{colCheckResult, &s.CheckResult},
		{colCheckHealth, &s.CheckHealth},
		{colCheck, (*int)(&s.Check)},
		{colAgent, (*int)(&s.Agent)},
		{colPort, &port},
	} {
		value, err := strconv.Atoi(words[at[n.column]])
		if err != nil || value < 0 && n.column != colSince {
			return fmt.Errorf("column %s is not a number", stateColumns[n.column])
		}
		*n.to = max(value, 0) // just after a start from a state file, HAProxy 2.6 writes -1 seconds
	}
	if port > 0xffff {
		return fmt.Errorf("column %s is not a port", stateColumns[colPort])
	}
	s.Since = time.Duration(since) * time.Second
	addr, _ := netip.ParseAddr(words[at[colAddr]]) // "-" without an address
	s.Addr = netip.AddrPortFrom(addr, uint16(port))
	if fqdn := words[at[colFQDN]]; fqdn != "-" {
		s.FQDN = fqdn
	}
	return nil
}
