package job

import "fmt"

// maxAnswer is what an answer's body may have, so that headers have room.
const maxAnswer = MaxJob - 8<<10

// AnswerMessage is the job that brings a call's answer to its context, signed. It has the same id however often it is
// made. An answer that is too large for a job becomes a failure that says so.
func (k Keyring) AnswerMessage(a Address, service, call, trace string, ans Answer) (Message, error) {
	seq, index, err := ParseEffectID(call)
	if err != nil {
		return Message{}, err
	}
	body, err := Encode(ans)
	if err == nil && len(body) > maxAnswer {
		body, err = Encode(Answer{
			Status: ans.Status, Attempts: ans.Attempts, Duration: ans.Duration, Stored: ans.Stored,
			Failure: &Failure{Type: FailureTooLarge, Message: fmt.Sprintf("the answer has %d bytes as a job, at most %d are allowed", len(body), maxAnswer)},
		})
	}
	if err != nil {
		return Message{}, err
	}
	m := Message{Subject: a.String(), Data: body, Header: map[string][]string{
		HeaderID:     {k.MessageID(k.Signing(), "answer", Origin{Address: a, Sequence: seq, Index: index})},
		HeaderCaller: {service},
		HeaderCall:   {call},
		HeaderType:   {TypeAnswer},
	}}
	if trace != "" {
		m.Header[HeaderTrace] = []string{trace}
	}
	k.Sign(&m)
	return m, nil
}
