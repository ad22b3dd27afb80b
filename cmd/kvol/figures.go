package main

import (
	"fmt"
	"math"
	"time"
)

// stretch is a stretch of time in seconds as people say it.
func stretch(seconds float64) string {
	d := time.Duration(math.Min(seconds, math.MaxInt64/2e9) * float64(time.Second))
	switch {
	case seconds < 0:
		return "-" + stretch(-seconds)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < 48*time.Hour:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%.1f days", d.Hours()/24)
}

// size is a number of bytes as people say it.
func size(bytes int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB"}
	if bytes < 1024 && bytes > -1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	f, unit := float64(bytes)/1024, 0
	for (f >= 1024 || f <= -1024) && unit < len(units)-1 {
		f, unit = f/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", f, units[unit])
}

// share is a part of a whole.
func share(f float64) string { return fmt.Sprintf("%.1f %%", 100*f) }
