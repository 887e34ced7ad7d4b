package modules

import (
	"math"
	"time"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// timesMembers is Tengo's times without sleep, and without zones of the machine: every time is in UTC, and now is the
// job's time.
var timesMembers = members{
	"format_ansic": str(time.ANSIC), "format_unix_date": str(time.UnixDate), "format_ruby_date": str(time.RubyDate),
	"format_rfc822": str(time.RFC822), "format_rfc822z": str(time.RFC822Z), "format_rfc850": str(time.RFC850),
	"format_rfc1123": str(time.RFC1123), "format_rfc1123z": str(time.RFC1123Z), "format_rfc3339": str(time.RFC3339),
	"format_rfc3339_nano": str(time.RFC3339Nano), "format_kitchen": str(time.Kitchen), "format_stamp": str(time.Stamp),
	"format_stamp_milli": str(time.StampMilli), "format_stamp_micro": str(time.StampMicro),
	"format_stamp_nano": str(time.StampNano),
	"nanosecond":        integer(int64(time.Nanosecond)), "microsecond": integer(int64(time.Microsecond)),
	"millisecond": integer(int64(time.Millisecond)), "second": integer(int64(time.Second)),
	"minute": integer(int64(time.Minute)), "hour": integer(int64(time.Hour)),
	"january": integer(1), "february": integer(2), "march": integer(3), "april": integer(4), "may": integer(5),
	"june": integer(6), "july": integer(7), "august": integer(8), "september": integer(9), "october": integer(10),
	"november": integer(11), "december": integer(12),

	"now":   fn{0, 0, func(r *Run, _ []tengo.Object) (tengo.Object, error) { return timeOf(r.job.Time), nil }},
	"since": fn{1, 1, timesSince}, "until": fn{1, 1, timesUntil},
	"date": fn{3, 7, timesDate}, "parse": fn{2, 2, timesParse}, "unix": fn{1, 2, timesUnix},
	"add": fn{2, 2, timesAdd}, "add_date": fn{4, 4, timesAddDate}, "sub": fn{2, 2, timesSub},
	"after": compare(time.Time.After), "before": compare(time.Time.Before),

	"parse_duration":       fn{1, 1, timesParseDuration},
	"duration_hours":       duration(func(d time.Duration) tengo.Object { return number(d.Hours()) }),
	"duration_minutes":     duration(func(d time.Duration) tengo.Object { return number(d.Minutes()) }),
	"duration_seconds":     duration(func(d time.Duration) tengo.Object { return number(d.Seconds()) }),
	"duration_nanoseconds": duration(func(d time.Duration) tengo.Object { return integer(d.Nanoseconds()) }),
	"duration_string":      duration(func(d time.Duration) tengo.Object { return str(d.String()) }),
	"month_string":         fn{1, 1, timesMonthString},

	"time_year":       part(func(t time.Time) tengo.Object { return integer(int64(t.Year())) }),
	"time_month":      part(func(t time.Time) tengo.Object { return integer(int64(t.Month())) }),
	"time_day":        part(func(t time.Time) tengo.Object { return integer(int64(t.Day())) }),
	"time_weekday":    part(func(t time.Time) tengo.Object { return integer(int64(t.Weekday())) }),
	"time_hour":       part(func(t time.Time) tengo.Object { return integer(int64(t.Hour())) }),
	"time_minute":     part(func(t time.Time) tengo.Object { return integer(int64(t.Minute())) }),
	"time_second":     part(func(t time.Time) tengo.Object { return integer(int64(t.Second())) }),
	"time_nanosecond": part(func(t time.Time) tengo.Object { return integer(int64(t.Nanosecond())) }),
	"time_unix":       part(func(t time.Time) tengo.Object { return integer(t.Unix()) }),
	"time_unix_nano":  part(func(t time.Time) tengo.Object { return integer(t.UnixNano()) }),
	"time_location":   part(func(t time.Time) tengo.Object { return str(t.Location().String()) }),
	"time_string":     part(func(t time.Time) tengo.Object { return str(t.String()) }),
	"is_zero":         part(func(t time.Time) tengo.Object { return boolean(t.IsZero()) }),
	"to_utc":          part(timeOf),
	"time_format":     fn{2, 2, timesFormat},
}

func timeOf(t time.Time) tengo.Object { return &tengo.Time{Value: t.UTC()} }

func part(f func(time.Time) tengo.Object) fn {
	return fn{1, 1, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		t, err := toTime(args, 0)
		if err != nil {
			return nil, err
		}
		return f(t), nil
	}}
}

func duration(f func(time.Duration) tengo.Object) fn {
	return fn{1, 1, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		d, err := toInt(args, 0)
		if err != nil {
			return nil, err
		}
		return f(time.Duration(d)), nil
	}}
}

func twoTimes(args []tengo.Object) (t, u time.Time, err error) {
	if t, err = toTime(args, 0); err == nil {
		u, err = toTime(args, 1)
	}
	return t, u, err
}

func compare(f func(t, u time.Time) bool) fn {
	return fn{2, 2, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		t, u, err := twoTimes(args)
		return boolean(f(t, u)), err
	}}
}

func timesSince(r *Run, args []tengo.Object) (tengo.Object, error) {
	t, err := toTime(args, 0)
	return integer(int64(r.job.Time.Sub(t))), err
}

func timesUntil(r *Run, args []tengo.Object) (tengo.Object, error) {
	t, err := toTime(args, 0)
	return integer(int64(t.Sub(r.job.Time))), err
}

func timesSub(_ *Run, args []tengo.Object) (tengo.Object, error) {
	t, u, err := twoTimes(args)
	return integer(int64(t.Sub(u))), err
}

// timesDate(year, month, day[, hour[, minute[, second[, nanosecond]]]])
func timesDate(_ *Run, args []tengo.Object) (tengo.Object, error) {
	var n [7]int
	for i := range args {
		var err error
		if n[i], err = toCount(args, i, math.MinInt32, math.MaxInt32); err != nil {
			return nil, err
		}
	}
	return timeOf(time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], n[6], time.UTC)), nil
}

func timesParse(_ *Run, args []tengo.Object) (tengo.Object, error) {
	layout, s, err := texts2(args)
	if err != nil {
		return nil, err
	}
	t, err := time.ParseInLocation(layout, s, time.UTC)
	if err != nil {
		return value.NewError(err), nil
	}
	return timeOf(t), nil
}

func timesUnix(_ *Run, args []tengo.Object) (tengo.Object, error) {
	var n [2]int64
	for i := range args {
		var err error
		if n[i], err = toInt(args, i); err != nil {
			return nil, err
		}
	}
	return timeOf(time.Unix(n[0], n[1])), nil
}

func timesAdd(_ *Run, args []tengo.Object) (tengo.Object, error) {
	t, err := toTime(args, 0)
	if err != nil {
		return nil, err
	}
	d, err := toInt(args, 1)
	return timeOf(t.Add(time.Duration(d))), err
}

func timesAddDate(_ *Run, args []tengo.Object) (tengo.Object, error) {
	t, err := toTime(args, 0)
	if err != nil {
		return nil, err
	}
	var n [3]int
	for i := range n {
		if n[i], err = toCount(args, i+1, math.MinInt32, math.MaxInt32); err != nil {
			return nil, err
		}
	}
	return timeOf(t.AddDate(n[0], n[1], n[2])), nil
}

func timesParseDuration(_ *Run, args []tengo.Object) (tengo.Object, error) {
	s, err := toText(args, 0)
	if err != nil {
		return nil, err
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return value.NewError(err), nil
	}
	return integer(int64(d)), nil
}

func timesMonthString(_ *Run, args []tengo.Object) (tengo.Object, error) {
	n, err := toCount(args, 0, 1, 12)
	return str(time.Month(n).String()), err
}

func timesFormat(_ *Run, args []tengo.Object) (tengo.Object, error) {
	t, err := toTime(args, 0)
	if err != nil {
		return nil, err
	}
	layout, err := toText(args, 1)
	if err != nil {
		return nil, err
	}
	if len(layout) > 10_000 {
		return nil, tengo.ErrStringLimit
	}
	return str(t.Format(layout)), nil
}
