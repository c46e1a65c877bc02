// Package agentcheck implements HAProxy's agent check: the line of text with which a server, or an
// agent near it, sets its own weight and state in HAProxy.
//
//	s := &agentcheck.Server{Handler: agentcheck.HandlerFunc(
//		func(ctx context.Context, q *agentcheck.Request) agentcheck.Reply {
//			return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready, Weight: agentcheck.Percent(75)}
//		})}
//	err := s.Serve(listener) // answers "up ready 75%\n"
//
// The matching configuration of HAProxy, with an agent on port 9707 of each server:
//
//	server n1 10.0.0.1:31000 weight 100 check agent-check agent-inter 2s agent-port 9707
//
// The package has three layers. Each one works without the next.
//
//   - Values: a [Reply] is an answer. [Parse] reads one, [Reply.AppendLine] writes one,
//     [Reply.MostRestrictive] combines two for the same server, and [Lint] finds traps in one. All
//     are pure functions of comparable values.
//   - [Handler] decides on an answer. A Reply is a Handler with a constant answer, and
//     [MostRestrictive] combines handlers.
//   - [Server] answers HAProxy. [Client] makes agent checks as HAProxy does.
//
// # What an answer means
//
// An answer is a line of words in any order and case, separated by spaces, tabs or commas. It ends
// with CR or LF.
//
//	up | down | fail | stopped    health; the last three take the server out
//	ready | drain | maint         administrative state
//	75%                           weight, in percent of the configured weight
//	weight:75, weight:75%         absolute weight, and percentage, from HAProxy 3.1 on
//	maxconn:30                    limit of connections, 0 for no limit
//	# disk full                   reason for the operator, up to the end of the line
//
// HAProxy keeps every setting until an answer names the same setting again. It also keeps the last
// answer of an agent that no longer runs: a closed port, a reset or silence changes nothing. Only
// "up" ends "down", and only "ready" ends "drain" and "maint". So every answer should name all
// settings that the agent ever changes.
//
// An agent that answers "ready" also ends, at the next check, a drain or maintenance that an
// operator has set by hand. An agent that never drains can leave the administrative state out.
//
// Parse follows the source of HAProxy (tcpcheck_agent_expect_reply in src/tcpcheck.c,
// server_parse_weight_change_request and server_parse_maxconn_change_request in src/server.c). The
// tests compare Parse with a running HAProxy, answer by answer.
//
// # Operating agents
//
//   - HAProxy truncates a percentage of the configured weight to a whole number, at most 256. The
//     default weight is 1, and 50% of 1 is 0: give servers weight 100.
//   - 0% and drain let clients stay that a cookie or a stick table binds to the server. maint moves
//     these clients. If every server is at 0% or in drain, new clients get an error.
//   - static-rr accepts only the weights 0% and 100%. So do source, uri, url_param, hdr and
//     rdp-cookie without "hash-type consistent".
//   - HAProxy speaks plain TCP to agents, also if the server speaks TLS. HAProxy waits for
//     agent-inter (or timeout check), and checks the agent of each server separately.
//   - With agent-send "name\n" (with the \n) and Server.ReadName, one port answers for many
//     services. Without agent-send HAProxy sends nothing, and a Server with ReadName never answers.
//
// The package does not choose answers and does not use Kubernetes. Package nodeagent does both.
package agentcheck
