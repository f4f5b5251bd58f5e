//! Configurations that lack the line a check is about, each by the smallest change of the file as shipped.

use crate::Broken;
use crate::front::{Change, Kind};

/// No upgrade gets through.
pub fn without_upgrade(kind: Kind) -> Change {
    match kind {
        Kind::Nginx => ("proxy_set_header Upgrade    $http_upgrade;", ""),
        Kind::Caddy => ("reverse_proxy {$CHAT", "request_header -Upgrade\n\treverse_proxy {$CHAT"),
        Kind::Haproxy => ("http-request del-header Forwarded", "http-request del-header Upgrade"),
    }
}

/// What a stream sends is kept for a while.
pub fn with_buffers(kind: Kind) -> Change {
    match kind {
        Kind::Nginx => (
            "proxy_buffering off;",
            "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;
            gzip on; gzip_types text/event-stream; gzip_proxied any;",
        ),
        Kind::Caddy => ("flush_interval -1", "buffer_responses"),
        Kind::Haproxy => (
            "option httpchk GET /readyz",
            "option httpchk GET /readyz\n    http-response wait-for-body time 10s",
        ),
    }
}

/// A quiet connection is taken for a dead one after two seconds.
pub fn impatient(kind: Kind) -> Change {
    match kind {
        Kind::Nginx => ("proxy_read_timeout 75s;", "proxy_read_timeout 2s;"),
        Kind::Caddy => ("dial_timeout 2s", "dial_timeout 2s\n\t\t\tread_timeout 2s"),
        Kind::Haproxy => ("timeout tunnel          75s", "timeout tunnel          2s"),
    }
}

/// The client's own X-Forwarded-For gets through.
pub fn trusting(kind: Kind) -> Change {
    match kind {
        Kind::Nginx => ("proxy_set_header X-Forwarded-For   $remote_addr;", ""),
        Kind::Caddy => {
            ("header_up -Forwarded", "header_up X-Forwarded-For {header.X-Forwarded-For}")
        }
        Kind::Haproxy => ("http-request set-header X-Forwarded-For %[src]", ""),
    }
}

/// The log of requests has all of their addresses.
pub fn talkative(kind: Kind) -> Change {
    match kind {
        Kind::Nginx => ("\"$request_method $uri\"", "\"$request_method $request_uri\""),
        Kind::Caddy => {
            ("request>uri regexp \\?.* \"\"\n\t\t\t\trequest>headers delete\n\t\t\t\tresp", "resp")
        }
        Kind::Haproxy => ("%HPO", "%HU"),
    }
}

/// The log of errors has whole requests.
pub fn outspoken(kind: Kind) -> Vec<Change> {
    match kind {
        Kind::Nginx => vec![("error_log stderr crit;", "error_log stderr warn;")],
        // What it answers by itself it does not log as an error.
        Kind::Caddy => vec![
            (
                "request>uri regexp \\?.* \"\"\n\t\t\t\trequest>headers delete\n\t\t\t}",
                "request>headers delete\n\t\t\t}",
            ),
            ("respond @away \"Come back in a moment.\" 503", "error @away 503"),
        ],
        // It has one log for everything.
        Kind::Haproxy => vec![talkative(kind)],
    }
}

/// The second node is not asked.
pub fn with_one_node(kind: Kind) -> Change {
    match kind {
        Kind::Nginx => ("server node-b:3005 ", "server node-b:3005 down "),
        Kind::Caddy => (" {$CHAT_NODE_B:node-b:3005}", ""),
        Kind::Haproxy => ("server node-b \"${CHAT_NODE_B}\"", ""),
    }
}

/// Nobody is told when to come back.
pub fn silent(kind: Kind) -> Change {
    match kind {
        Kind::Nginx => ("add_header Retry-After 2 always;", ""),
        Kind::Caddy => ("header @away Retry-After 2", ""),
        Kind::Haproxy => (" hdr Retry-After 2", ""),
    }
}

/// Old workers end a second after a reload. Caddy has no such line here: what it does is measured as it
/// is.
pub fn hasty(kind: Kind) -> Option<Broken> {
    let change = match kind {
        Kind::Nginx => ("worker_shutdown_timeout 10m;", "worker_shutdown_timeout 1s;"),
        Kind::Haproxy => ("hard-stop-after 10m", "hard-stop-after 1s"),
        Kind::Caddy => return None,
    };
    Some((vec![change], "cut"))
}

/// A node that drains is asked as ever.
pub fn unasking(kind: Kind) -> Change {
    match kind {
        Kind::Nginx => {
            ("proxy_next_upstream error timeout http_503;", "proxy_next_upstream error timeout;")
        }
        Kind::Caddy => ("health_uri /readyz\n\t\thealth_port {$CHAT_HEALTH_PORT:9005}\n", ""),
        Kind::Haproxy => {
            ("retry-on conn-failure empty-response 503", "retry-on conn-failure empty-response")
        }
    }
}

/// An address may have five connections. Caddy counts nobody's.
pub fn low_limit(kind: Kind) -> Option<Change> {
    match kind {
        Kind::Nginx => Some(("limit_conn connections 200;", "limit_conn connections 5;")),
        Kind::Haproxy => Some(("sc_conn_cur(0) gt 200", "sc_conn_cur(0) gt 5")),
        Kind::Caddy => None,
    }
}
