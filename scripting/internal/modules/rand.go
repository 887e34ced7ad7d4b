package modules

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// randMembers is Tengo's rand on numbers that follow from the job (pool, context, sequence, id): the same job draws
// the same numbers. It is not for keys or passwords.
var randMembers = members{
	"int":        draws(func(g *rand.Rand) tengo.Object { return integer(g.Int64()) }),
	"float":      draws(func(g *rand.Rand) tengo.Object { return number(g.Float64()) }),
	"exp_float":  draws(func(g *rand.Rand) tengo.Object { return number(g.ExpFloat64()) }),
	"norm_float": draws(func(g *rand.Rand) tengo.Object { return number(g.NormFloat64()) }),
	"intn":       fn{1, 1, func(r *Run, args []tengo.Object) (tengo.Object, error) { return intn(r.random(), args) }},
	"perm":       fn{1, 1, func(r *Run, args []tengo.Object) (tengo.Object, error) { return perm(r.random(), args) }},
	"bytes":      fn{1, 1, func(r *Run, args []tengo.Object) (tengo.Object, error) { return fill(r.random(), args) }},
	"seed":       fn{1, 1, randSeed},
	"rand":       fn{1, 1, randRand},
}

// random returns the run's generator.
func (r *Run) random() *rand.Rand {
	if r.rng == nil {
		sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %q", r.job.Worker, r.job.Context, r.job.Sequence, r.job.ID))
		r.rng = rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])))
	}
	return r.rng
}

func seeded(args []tengo.Object) (*rand.Rand, error) {
	seed, err := toInt(args, 0)
	return rand.New(rand.NewPCG(uint64(seed), 0)), err
}

func draws(f func(*rand.Rand) tengo.Object) fn {
	return fn{0, 0, func(r *Run, _ []tengo.Object) (tengo.Object, error) { return f(r.random()), nil }}
}

func intn(g *rand.Rand, args []tengo.Object) (tengo.Object, error) {
	n, err := toCount(args, 0, 1, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	return integer(g.Int64N(int64(n))), nil
}

func perm(g *rand.Rand, args []tengo.Object) (tengo.Object, error) {
	n, err := toCount(args, 0, 0, 100_000)
	if err != nil {
		return nil, err
	}
	items := make([]tengo.Object, n)
	for i, v := range g.Perm(n) {
		items[i] = integer(int64(v))
	}
	return value.NewArray(items), nil
}

// fill takes the place of Tengo's read: bytes cannot be changed here.
func fill(g *rand.Rand, args []tengo.Object) (tengo.Object, error) {
	n, err := toCount(args, 0, 0, 100_000)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return &value.Bytes{Value: b}, nil
}

func randSeed(r *Run, args []tengo.Object) (tengo.Object, error) {
	g, err := seeded(args)
	if err != nil {
		return nil, err
	}
	r.rng = g
	return tengo.UndefinedValue, nil
}

// randRand(seed) returns a generator of its own.
func randRand(r *Run, args []tengo.Object) (tengo.Object, error) {
	g, err := seeded(args)
	if err != nil {
		return nil, err
	}
	own := func(f func(*rand.Rand, []tengo.Object) (tengo.Object, error), n int) fn {
		return fn{n, n, func(_ *Run, args []tengo.Object) (tengo.Object, error) { return f(g, args) }}
	}
	return newModule(r, "rand", members{
		"int":   own(func(g *rand.Rand, _ []tengo.Object) (tengo.Object, error) { return integer(g.Int64()), nil }, 0),
		"float": own(func(g *rand.Rand, _ []tengo.Object) (tengo.Object, error) { return number(g.Float64()), nil }, 0),
		"intn":  own(intn, 1),
		"perm":  own(perm, 1),
		"bytes": own(fill, 1),
	}), nil
}
