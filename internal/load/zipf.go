package load

import (
	"math"
	"math/rand/v2"
	"sync"
)

// zipf draws numbers as YCSB does: the smaller the more often, with exponent 0.99.
type zipf struct {
	random                  *rand.Rand
	n                       float64
	alpha, zetan, eta, half float64
}

const theta = 0.99

var zetas sync.Map

func zeta(n int) float64 {
	if z, ok := zetas.Load(n); ok {
		return z.(float64) //nolint:forcetypeassert // nothing else is stored
	}
	sum := 0.0
	for i := 1; i <= n; i++ {
		sum += 1 / math.Pow(float64(i), theta)
	}
	zetas.Store(n, sum)
	return sum
}

func newZipf(random *rand.Rand, n int) *zipf {
	z := &zipf{random: random, n: float64(n), alpha: 1 / (1 - theta), zetan: zeta(n), half: 1 + math.Pow(0.5, theta)}
	z.eta = (1 - math.Pow(2/z.n, 1-theta)) / (1 - zeta(2)/z.zetan)
	return z
}

func (z *zipf) next() int {
	u := z.random.Float64()
	uz := u * z.zetan
	switch {
	case uz < 1 || z.n < 3:
		return 0
	case uz < z.half:
		return 1
	}
	return min(int(z.n)-1, int(z.n*math.Pow(z.eta*u-z.eta+1, z.alpha)))
}
