//go:build linux

package scenarios

import (
	"context"
	"encoding/json"

	"github.com/headgate/headgate/examples/e2e/internal/pod"
	"github.com/headgate/headgate/internal/httpload"
)

// These are the types of package httpload for a load on the test pods: the answers of the pods have
// the type pod.Answer.
type (
	loadConfig = httpload.Config[pod.Answer]
	loadRun    = httpload.Run[pod.Answer]
	request    = httpload.Request[pod.Answer]
)

// startLoad starts a load on pods. If the server has closed a kept connection without a response,
// the client repeats the request once.
func startLoad(ctx context.Context, c loadConfig) *loadRun {
	c.Repeat = true
	c.Parse = parseAnswer
	return httpload.Start(ctx, c)
}

func parseAnswer(line []byte) (answer pod.Answer, err error) {
	err = json.Unmarshal(line, &answer)
	return answer, err
}
