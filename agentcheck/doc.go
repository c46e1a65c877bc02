// Package agentcheck speaks HAProxy's agent-check: the line with which a server, or an agent
// beside it, tells HAProxy how much traffic it may get.
//
//	s := &agentcheck.Server{Handler: agentcheck.HandlerFunc(
//		func(ctx context.Context, q *agentcheck.Request) agentcheck.Reply {
//			return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready, Weight: agentcheck.Percent(75)}
//		})}
//	err := s.Serve(listener) // answers "up ready 75%\n"
//
// The configuration beside it, with an agent on each server's port 9707:
//
//	server n1 10.0.0.1:31000 weight 100 check agent-check agent-inter 2s agent-port 9707
//
// There are three layers, and each is usable without the next.
//
//   - Values: [Reply] is an answer. [Parse] and [Reply.AppendText] read and write one, [Reply.Worst]
//     combines two for the same server, [Lint] names what is surprising about one. All are pure
//     functions of comparable values.
//   - [Handler] decides on an answer; a Reply is the handler that always gives it, and [Worst]
//     combines handlers.
//   - [Server] answers HAProxy, [Client] asks as HAProxy does.
//
// # What an answer means
//
// A line of words, in any order and case, separated by spaces, tabs or commas, up to CR or LF:
//
//	up | down | fail | stopped    health; the last three take the server out
//	ready | drain | maint         administrative state
//	75%                           weight, as a share of the configured one
//	weight:75, weight:75%         the same, absolute or not, from HAProxy 3.1 on
//	maxconn:30                    limit of connections, 0 for none
//	# disk full                   reason, to the end of the line, shown to the operator
//
// Every setting stays until an answer names that same one again, and so does the last answer of
// an agent that is gone: HAProxy takes a closed port, a reset or silence for no news. After "down"
// only "up" helps, not "ready"; after "drain" or "maint" only "ready". So an agent names, in every
// answer, all settings that it will ever use. One of them is a choice to make: an agent that says
// "ready" also ends, at the next check, the drain or maintenance that an operator has set by hand;
// an agent that never says drain or maint can leave the administrative state alone.
//
// Parse and the rest follow the source of HAProxy (tcpcheck_agent_expect_reply in src/tcpcheck.c,
// server_parse_weight_change_request and server_parse_maxconn_change_request in src/server.c), and
// the tests compare them with a running HAProxy, answer by answer.
//
// # What to know when operating it
//
//   - A percentage is a share of the weight in HAProxy's configuration, truncated and at most 256.
//     Its default is 1, of which 50% is 0: give servers weight 100.
//   - 0% and drain let clients stay that a cookie or a stick table binds to the server; maint moves
//     them. With every server at 0% or in drain, new clients get an error.
//   - static-rr, and source, uri, url_param, hdr and rdp-cookie without "hash-type consistent", take
//     the weights 0% and 100% only.
//   - HAProxy speaks plain TCP to agents, whatever the server speaks. It waits for agent-inter (or
//     timeout check) and asks each server's agent by itself: a Server answers with one write.
//   - With agent-send "name\n" (with the \n) and Server.ReadName one port answers for many services.
//     Without agent-send HAProxy sends nothing, so that a Server with ReadName would wait in vain.
//
// The package does not decide what an answer should be, and knows nothing of Kubernetes: that is
// what handlers are for.
package agentcheck
