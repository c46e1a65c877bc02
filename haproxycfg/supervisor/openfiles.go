package supervisor

import (
	"regexp"
	"strconv"

	"github.com/headgate/headgate/internal/inputfile"
)

var openFiles = regexp.MustCompile(`(?m)^Max open files +[0-9]+ +([0-9]+) `)

// MaxConnections returns the largest "maxconn" for which this process can give HAProxy enough file
// descriptors. ok is false if there is no limit, and on systems other than Linux.
//
// A connection needs two descriptors. A quarter of the limit, but no more than 4,096 descriptors,
// is for checks, idle connections to servers and listeners. The result does not depend on the
// number of servers, because each change of maxconn needs a reload.
func MaxConnections() (n int, ok bool) {
	limits, err := inputfile.Read("/proc/self/limits", 64<<10)
	if err != nil {
		return 0, false
	}
	return maxConnections(limits)
}

func maxConnections(limits []byte) (n int, ok bool) {
	m := openFiles.FindSubmatch(limits)
	if m == nil {
		return 0, false
	}
	limit, err := strconv.Atoi(string(m[1]))
	return (limit - min(limit/4, 4096)) / 2, err == nil
}
