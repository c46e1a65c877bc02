// Package agentcheck implements HAProxy's agent check. In an agent check, HAProxy connects to an
// agent, usually a program on the server, and reads one line of text. With this line the agent sets
// the server's weight and state in HAProxy.
//
//	s := &agentcheck.Server{Handler: agentcheck.HandlerFunc(
//		func(ctx context.Context, q *agentcheck.Request) agentcheck.Reply {
//			return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready, Weight: agentcheck.Percent(75)}
//		})}
//	err := s.Serve(listener) // answers "up ready 75%\n"
//
// This line of HAProxy's configuration makes HAProxy check such an agent, on port 9707 of the
// server:
//
//	server n1 10.0.0.1:31000 weight 100 check agent-check agent-inter 2s agent-port 9707
//
// The package has three layers:
//
//   - Values: a [Reply] is an answer. [Parse] reads an answer, [Reply.AppendLine] writes it,
//     [Reply.MostRestrictive] combines two answers for the same server, and [Lint] finds traps in
//     an answer. These functions are pure.
//   - [Handler] decides which answer to give. A Reply is a Handler that always gives the same
//     answer. [MostRestrictive] combines handlers.
//   - [Server] answers HAProxy. [Client] makes agent checks as HAProxy does.
//
// # What an answer means
//
// An answer is one line that ends with CR or LF. It contains words in any order and case, separated
// by spaces, tabs or commas:
//
//	up | down | fail | stopped    health; the last three take the server out
//	ready | drain | maint         administrative state
//	75%                           weight, in percent of the configured weight
//	weight:75, weight:75%         absolute weight, and percentage, from HAProxy 3.1 on
//	maxconn:30                    limit of connections, 0 for no limit
//	# disk full                   reason for the operator, up to the end of the line
//
// HAProxy keeps each setting until an answer names it again. Only "up" ends "down", "fail" and
// "stopped", and only "ready" ends "drain" and "maint". So every answer should name all settings
// that the agent ever changes.
//
// An answer with "ready" also ends a drain or maintenance that an operator set by hand. So an agent
// that never drains should not name the administrative state.
//
// If the agent does not answer (closed port, reset, timeout), HAProxy keeps the agent's last
// answer.
//
// # Operating agents
//
//   - HAProxy computes the weight from the configured weight and the percentage. It rounds down,
//     and uses at most 256. Configure servers with weight 100: the default is 1, and 50% of 1 is 0.
//   - Cookies and stick tables bind clients to a server. After the answer "0%" or "drain", these
//     clients stay at the server. After "maint", they move to other servers. If every server has
//     the weight 0 or is in drain, new clients get an error.
//   - Static balance algorithms accept only the weights 0% and 100%. They are static-rr, and
//     source, uri, url_param, hdr and rdp-cookie without "hash-type consistent".
//   - HAProxy speaks plain TCP to agents, even if it speaks TLS to the server. It waits for an
//     answer for "timeout check", or for agent-inter without this setting.
//   - One port can answer for many services: configure agent-send "name\n" in HAProxy, and set
//     Server.ReadName. The name must end with \n. Without agent-send, HAProxy sends nothing, so a
//     Server with ReadName never answers.
//
// Package nodeagent computes answers from Kubernetes objects.
package agentcheck
