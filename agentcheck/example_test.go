package agentcheck_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"

	"github.com/headgate/headgate/agentcheck"
)

// The answer of this agent depends on the state of its node.
func Example() {
	cordoned := true // from the cluster
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &agentcheck.Server{Handler: agentcheck.HandlerFunc(func(context.Context, *agentcheck.Request) agentcheck.Reply {
		if cordoned {
			return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Drain, Reason: "cordoned"}
		}
		return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready}
	})}
	go s.Serve(l)
	defer s.Close()

	reply, err := new(agentcheck.Client).Check(context.Background(), l.Addr().String())
	fmt.Println(reply, err)
	// Output: up drain # cordoned <nil>
}

func ExampleParse() {
	reply, err := agentcheck.Parse([]byte("UP,ready 75% maxconn:30 # canary\r\n"))
	fmt.Printf("%v / %v / %v / %v / %q / %v\n", reply.State, reply.Admin, reply.Weight, reply.MaxConn, reply.Reason, err)

	// HAProxy applies the valid words and shows an error for the others. Parse does the same.
	reply, err = agentcheck.Parse([]byte("bogus 50%\n"))
	fmt.Println(reply, "/", err)
	var word *agentcheck.WordError
	fmt.Println(errors.As(err, &word), word.Word, word.Offset)

	// An answer without a line end changes nothing.
	_, err = agentcheck.Parse([]byte("50%"))
	fmt.Println(err)
	// Output:
	// up / ready / 75% / maxconn:30 / "canary" / <nil>
	// 50% / agentcheck: word "bogus": unknown word
	// true bogus 0
	// agentcheck: answer has no line end
}

func ExampleReply_AppendLine() {
	reply := agentcheck.Reply{
		State:   agentcheck.Fail,
		Admin:   agentcheck.Drain,
		Weight:  agentcheck.Percent(0),
		MaxConn: agentcheck.Connections(30),
		Reason:  "disk\nfull", // the answer stays one line
	}
	line, err := reply.AppendLine(nil)
	fmt.Printf("%q %v\n", line, err)
	// Output: "fail drain 0% maxconn:30 # disk full\n" <nil>
}

func ExampleReply_MostRestrictive() {
	node := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Drain, Weight: agentcheck.Percent(100), Reason: "cordoned"}
	service := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready, Weight: agentcheck.Percent(50), Reason: "canary"}
	fmt.Println(node.MostRestrictive(service))
	// Output: up drain 50% # cordoned
}

// One port answers for many services. HAProxy sends the name of the service:
//
//	server n1 10.0.0.1:31000 weight 100 agent-check agent-port 9707 agent-send "media/tracks\n"
func ExampleServer_readName() {
	weights := map[string]int{"media/tracks": 100, "media/users": 25}
	s := &agentcheck.Server{
		ReadName: true,
		Handler: agentcheck.HandlerFunc(func(_ context.Context, q *agentcheck.Request) agentcheck.Reply {
			weight, ok := weights[q.Name]
			if !ok {
				return agentcheck.Reply{} // changes nothing
			}
			return agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready, Weight: agentcheck.Percent(weight)}
		}),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()

	for _, name := range []string{"media/tracks", "media/users", "media/gone"} {
		client := agentcheck.Client{Send: name + "\n"}
		reply, err := client.Check(context.Background(), l.Addr().String())
		fmt.Printf("%s: %q %v\n", name, reply, err)
	}
	// Output:
	// media/tracks: "up ready 100%" <nil>
	// media/users: "up ready 25%" <nil>
	// media/gone: "" <nil>
}

func ExampleMostRestrictive() {
	node := agentcheck.Reply{State: agentcheck.Up, Admin: agentcheck.Ready, Weight: agentcheck.Percent(100)}
	service := agentcheck.HandlerFunc(func(context.Context, *agentcheck.Request) agentcheck.Reply {
		return agentcheck.Reply{Weight: agentcheck.Percent(50)}
	})
	both := agentcheck.MostRestrictive(node, service)
	fmt.Println(both.ServeAgent(context.Background(), &agentcheck.Request{}))
	// Output: up ready 50%
}

func ExampleLint() {
	setup := agentcheck.Setup{Balance: "source", InitialWeight: agentcheck.Absolute(100)}
	for _, f := range agentcheck.Lint([]byte("up 50% stopped#foo\n"), setup) {
		fmt.Println(f.Trap, f.Word)
	}
	// Output:
	// glued-reason stopped#foo
	// static-balance 50%
	// open-setting
}
