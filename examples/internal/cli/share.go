package cli

import (
	"errors"
	"strconv"
	"strings"
)

// ParseShare reads a share of a whole, "30%" or "0.3". It is from 0 to 1.
func ParseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, errors.New("want a share such as 30%")
	}
	return share, nil
}
