package job

// RatesStream is the stream that says how far the rates of a pool's services are used up.
func RatesStream(pool string) string { return "RATES_" + pool }

// RateSubject is where it stands how far a service's rate is used up. It has three tokens, so it is no job's.
func RateSubject(pool, service string) string { return pool + ".rate." + service }

// AskSubject is where a pool's workers are asked what they know of the services that they call. Nothing stores it.
func AskSubject(pool string) string { return pool + ".ask.services" }

// ToldSubject is where workers answer who asked. They answer nowhere else: who may ask could have them publish anything
// that workers may.
func ToldSubject(pool, id string) string { return pool + ".told." + id }
