#!/usr/bin/env bash
#
# Accounts and users of nsc's present operator, with the permissions of subjects.md for the pool payments: what permissions.conf is
# for passwords. For another pool, replace payments. `nsc generate creds --account THENCE --name worker` then writes the file that
# --creds takes.
set -euo pipefail

tokens=$(mktemp -d)
trap 'rm -rf "$tokens"' EXIT

for account in THENCE CALLERS CONSOLE; do
  nsc add account --name "$account"
done
nsc edit account --name THENCE --js-disk-storage -1 --js-mem-storage -1

# export_subject SUBJECT [FLAG...]: of the account that has the streams.
export_subject() {
  local subject=$1
  shift
  nsc add export --account THENCE --private --name "$subject" --subject "$subject" "$@"
}

# import_subject ACCOUNT SUBJECT: lets an account have what is exported.
import_subject() {
  local token="$tokens/token"
  nsc generate activation --account THENCE --target-account "$1" --subject "$2" --output-file "$token"
  nsc add import --account "$1" --name "$2" --local-subject "$2" --token "$token"
}

# Nobody may ask for $JS.API.INFO: with it imported, the server does not answer the rest by that the account has no JetStream.
callers=(
  '$JS.API.INFO'
  'payments.*'
  '$JS.API.STREAM.INFO.KV_payments'
  '$JS.API.STREAM.INFO.JOBS_payments'
  '$JS.API.CONSUMER.CREATE.KV_payments.>'
  '$JS.API.CONSUMER.DELETE.KV_payments.>'
  '$JS.API.DIRECT.GET.KV_payments.>'
  '$JS.API.DIRECT.GET.DEAD_payments'
  '$JS.API.STREAM.MSG.GET.JOBS_payments'
  '$JS.API.STREAM.MSG.GET.KV_payments'
  '$JS.FC.KV_payments.>'
  '_INBOX_caller.>'
)
console=(
  '$JS.API.INFO'
  '$JS.API.STREAM.INFO.JOBS_payments'
  '$JS.API.STREAM.INFO.CALLS_payments'
  '$JS.API.STREAM.INFO.DEAD_payments'
  '$JS.API.STREAM.INFO.KV_payments'
  '$JS.API.DIRECT.GET.JOBS_payments'
  '$JS.API.DIRECT.GET.KV_payments.>'
  '$JS.API.DIRECT.GET.DEAD_payments'
  '$JS.API.STREAM.MSG.GET.KV_payments'
  '$JS.API.CONSUMER.LIST.JOBS_payments'
  '$JS.API.CONSUMER.LIST.CALLS_payments'
  '$JS.API.CONSUMER.CREATE.KV_payments.>'
  '$JS.API.CONSUMER.DELETE.KV_payments.>'
  '$JS.API.CONSUMER.CREATE.DEAD_payments.>'
  '$JS.API.CONSUMER.DELETE.DEAD_payments.>'
  '$JS.API.CONSUMER.MSG.NEXT.KV_payments.>'
  '$JS.API.CONSUMER.MSG.NEXT.DEAD_payments.>'
  '$JS.FC.KV_payments.>'
  '_INBOX_console.>'
)

mapfile -t shared < <(printf '%s\n' "${callers[@]}" "${console[@]}" | sort -u)
for subject in "${shared[@]}"; do
  case $subject in
    _INBOX*) export_subject "$subject" ;;
    *.MSG.NEXT.*) export_subject "$subject" --service --response-type Stream ;;
    *) export_subject "$subject" --service ;;
  esac
done
for subject in "${callers[@]}"; do import_subject CALLERS "$subject"; done
for subject in "${console[@]}"; do import_subject CONSOLE "$subject"; done

nsc add user --name publisher --account CALLERS \
  --allow-pub 'payments.cus_42' \
  --allow-pub '$JS.API.DIRECT.GET.KV_payments.$KV.payments.cus_42' \
  --allow-sub '_INBOX_publisher.>'

nsc add user --name caller --account CALLERS \
  --allow-pub 'payments.*' \
  --allow-pub '$JS.API.STREAM.INFO.KV_payments' \
  --allow-pub '$JS.API.STREAM.INFO.JOBS_payments' \
  --allow-pub '$JS.API.CONSUMER.CREATE.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.DELETE.KV_payments.>' \
  --allow-pub '$JS.API.DIRECT.GET.KV_payments.>' \
  --allow-pub '$JS.API.DIRECT.GET.DEAD_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.JOBS_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.KV_payments' \
  --allow-pub '$JS.FC.KV_payments.>' \
  --allow-sub '_INBOX_caller.>'

nsc add user --name worker --account THENCE \
  --allow-pub 'payments.*' \
  --allow-pub 'payments.*.call.*' \
  --allow-pub 'payments.*.retry.*' \
  --allow-pub 'payments.*.sent.*' \
  --allow-pub 'payments.*.dead.*' \
  --allow-pub 'payments.rate.*' \
  --allow-pub 'payments.release.*' \
  --allow-pub 'payments.told.*' \
  --allow-pub '$O.payments-bodies.>' \
  --allow-pub '$KV.payments.*' \
  --allow-pub '$JS.API.STREAM.INFO.*' \
  --allow-pub '$JS.API.STREAM.MSG.GET.JOBS_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.CALLS_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.DEAD_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.KV_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.KV_thence-keys' \
  --allow-pub '$JS.API.STREAM.MSG.GET.RATES_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.RELEASES_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.OBJ_payments-bodies' \
  --allow-pub '$JS.API.STREAM.PURGE.OBJ_payments-bodies' \
  --allow-pub '$JS.API.DIRECT.GET.JOBS_payments' \
  --allow-pub '$JS.API.DIRECT.GET.KV_payments.>' \
  --allow-pub '$JS.API.DIRECT.GET.OBJ_payments-bodies' \
  --allow-pub '$JS.API.CONSUMER.INFO.JOBS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.INFO.CALLS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.LIST.JOBS_payments' \
  --allow-pub '$JS.API.CONSUMER.LIST.CALLS_payments' \
  --allow-pub '$JS.API.CONSUMER.CREATE.CALLS_payments.>' \
  --allow-pub '$JS.API.CONSUMER.CREATE.RELEASES_payments.>' \
  --allow-pub '$JS.API.CONSUMER.PAUSE.CALLS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.JOBS_payments.workers' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.CALLS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.RELEASES_payments.>' \
  --allow-pub '$JS.ACK.JOBS_payments.>' \
  --allow-pub '$JS.ACK.CALLS_payments.>' \
  --allow-pub '$JS.ACK.*.*.JOBS_payments.>' \
  --allow-pub '$JS.ACK.*.*.CALLS_payments.>' \
  --allow-sub '_INBOX_worker.>' \
  --allow-sub 'payments.ask.services' \
  --allow-sub '$JS.EVENT.ADVISORY.CONSUMER.PAUSE.CALLS_payments.*'

nsc add user --name setup --account THENCE \
  --allow-pub '$KV.thence-keys.keys' \
  --allow-pub 'payments.release.*' \
  --allow-pub '$JS.API.INFO' \
  --allow-pub '$JS.API.STREAM.INFO.*' \
  --allow-pub '$JS.API.STREAM.CREATE.*' \
  --allow-pub '$JS.API.STREAM.UPDATE.*' \
  --allow-pub '$JS.API.STREAM.MSG.GET.KV_thence-keys' \
  --allow-pub '$JS.API.STREAM.MSG.GET.RELEASES_payments' \
  --allow-pub '$JS.API.CONSUMER.INFO.JOBS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.INFO.CALLS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.CREATE.JOBS_payments.>' \
  --allow-pub '$JS.API.CONSUMER.CREATE.CALLS_payments.>' \
  --allow-sub '_INBOX_setup.>'

nsc add user --name on-call --account THENCE \
  --allow-pub 'payments.*' \
  --allow-pub '$KV.payments.*' \
  --allow-pub 'payments.release.*' \
  --allow-pub '$JS.API.INFO' \
  --allow-pub '$JS.API.STREAM.NAMES' \
  --allow-pub '$JS.API.STREAM.INFO.*' \
  --allow-pub '$JS.API.STREAM.MSG.GET.*' \
  --allow-pub '$JS.API.DIRECT.GET.>' \
  --allow-pub 'payments.ask.services' \
  --allow-pub '$JS.API.CONSUMER.LIST.*' \
  --allow-pub '$JS.API.CONSUMER.INFO.CALLS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.PAUSE.CALLS_payments.*' \
  --allow-pub '$JS.API.CONSUMER.*.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.*.DEAD_payments.>' \
  --allow-pub '$JS.API.CONSUMER.*.RELEASES_payments.>' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.DEAD_payments.>' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.RELEASES_payments.>' \
  --allow-pub '$JS.API.STREAM.MSG.DELETE.DEAD_payments' \
  --allow-pub '$JS.API.STREAM.PURGE.CALLS_payments' \
  --allow-pub '$JS.FC.KV_payments.>' \
  --allow-pub '$SYS.REQ.ACCOUNT.PING.CONNZ' \
  --allow-sub '_INBOX_on-call.>' \
  --allow-sub 'payments.told.*'

nsc add user --name console --account CONSOLE \
  --allow-pub '$JS.API.STREAM.INFO.JOBS_payments' \
  --allow-pub '$JS.API.STREAM.INFO.CALLS_payments' \
  --allow-pub '$JS.API.STREAM.INFO.DEAD_payments' \
  --allow-pub '$JS.API.STREAM.INFO.KV_payments' \
  --allow-pub '$JS.API.DIRECT.GET.JOBS_payments' \
  --allow-pub '$JS.API.DIRECT.GET.KV_payments.>' \
  --allow-pub '$JS.API.DIRECT.GET.DEAD_payments' \
  --allow-pub '$JS.API.STREAM.MSG.GET.KV_payments' \
  --allow-pub '$JS.API.CONSUMER.LIST.JOBS_payments' \
  --allow-pub '$JS.API.CONSUMER.LIST.CALLS_payments' \
  --allow-pub '$JS.API.CONSUMER.CREATE.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.DELETE.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.CREATE.DEAD_payments.>' \
  --allow-pub '$JS.API.CONSUMER.DELETE.DEAD_payments.>' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.KV_payments.>' \
  --allow-pub '$JS.API.CONSUMER.MSG.NEXT.DEAD_payments.>' \
  --allow-pub '$JS.FC.KV_payments.>' \
  --allow-sub '_INBOX_console.>'
