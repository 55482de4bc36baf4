#!/bin/sh
# The lab's script for openconnect: records what it was told in $NETUP_LOG and sets the tunnel up from it.
# Ends with status 0 always: another status makes openconnect give up, and the record would not say why.

{
    env -0 | grep -zE '^(INTERNAL_|CISCO_|TUNDEV=|VPNGATEWAY=|IDLE_TIMEOUT=|reason=)'
    printf '\0'
} >>"$NETUP_LOG"

default_route() { ip "$1" route show default | sed -n '1s/^default //p'; }

gateway_family=-4
case "$VPNGATEWAY" in *:*) gateway_family=-6 ;; esac

keep_gateway_outside() {
    # shellcheck disable=SC2046
    ip $gateway_family route replace "$VPNGATEWAY" $(default_route $gateway_family)
}

# networks FAMILY VARIABLE TARGET…: a route to each network of a numbered list like CISCO_SPLIT_INC_0_ADDR.
networks() {
    family=$1 list=$2
    shift 2
    eval "count=\${$list:-0}"
    n=0
    while [ "$n" -lt "$count" ]; do
        eval "network=\$${list}_${n}_ADDR/\$${list}_${n}_MASKLEN"
        ip "$family" route replace "$network" "$@"
        n=$((n + 1))
    done
}

case "$reason" in
connect)
    ip link set dev "$TUNDEV" up mtu "$INTERNAL_IP4_MTU"
    if [ -n "$INTERNAL_IP4_ADDRESS" ]; then
        ip address add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
        if [ -z "$CISCO_SPLIT_INC" ]; then
            [ $gateway_family = -6 ] || keep_gateway_outside
            ip route replace 0.0.0.0/1 dev "$TUNDEV"
            ip route replace 128.0.0.0/1 dev "$TUNDEV"
        fi
        networks -4 CISCO_SPLIT_INC dev "$TUNDEV"
        # shellcheck disable=SC2046
        networks -4 CISCO_SPLIT_EXC $(default_route -4)
    fi
    if [ -n "$INTERNAL_IP6_ADDRESS" ]; then
        ip -6 address add "$INTERNAL_IP6_ADDRESS/128" dev "$TUNDEV" nodad
        if [ -z "$CISCO_IPV6_SPLIT_INC" ]; then
            [ $gateway_family = -4 ] || keep_gateway_outside
            ip -6 route replace ::/1 dev "$TUNDEV"
            ip -6 route replace 8000::/1 dev "$TUNDEV"
        fi
        networks -6 CISCO_IPV6_SPLIT_INC dev "$TUNDEV"
        # shellcheck disable=SC2046
        networks -6 CISCO_IPV6_SPLIT_EXC $(default_route -6)
    fi
    {
        [ -z "$CISCO_DEF_DOMAIN" ] || echo "search $CISCO_DEF_DOMAIN"
        for server in $INTERNAL_IP4_DNS $INTERNAL_IP6_DNS; do echo "nameserver $server"; done
    } >/etc/resolv.conf # this host's own file: tests/lab/host.py
    : >"$NETUP_LOG.up"  # everything is set: openconnect says "Configured" before
    ;;
attempt-reconnect | reconnect)
    # A route left over from another network would send the gateway's packets nowhere.
    if ip $gateway_family route show "$VPNGATEWAY" | grep -q .; then keep_gateway_outside; fi
    ;;
disconnect)
    ip $gateway_family route del "$VPNGATEWAY" 2>/dev/null
    : >/etc/resolv.conf
    ;;
esac
exit 0
