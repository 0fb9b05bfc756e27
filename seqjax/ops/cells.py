"""Recurrent cells as pure functions of one token, `(u, state, dot, rows) -> state`, for `scan.recur`.

u["x"] is the input part of all gates, side by side, (B, G*N). u["update"], if present, is a dropout mask of the
candidate (Semeniuta et al. 2016, arXiv:1603.05118). `dot(name, a)` multiplies by a recurrent weight. `rows` holds
biases and scales. The mixers state the equations.
"""

import jax
import jax.numpy as jnp


def _update(u, candidate_BN):
    return candidate_BN * u["update"] if "update" in u else candidate_BN


def tanh(u, state, dot, rows):
    """Elman: h = tanh(x + U h)."""
    return (_update(u, jnp.tanh(u["x"] + dot("recurrent", state[0]))),)


def relu(u, state, dot, rows):
    """Elman: h = max(x + U h, 0)."""
    return (_update(u, jax.nn.relu(u["x"] + dot("recurrent", state[0]))),)


def layer_norm(x_BN, scale_BN):
    """scale * (x - mean) / standard deviation, over the last axis. Ba et al. 2016, arXiv:1607.06450."""
    centred = x_BN - jnp.mean(x_BN, axis=-1, keepdims=True)
    return scale_BN * centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)


def lstm(u, state, dot, rows):
    """LSTM, gates i, f, g, o; with peepholes and layer norm if `rows` holds their parameters."""
    h, c = state
    g = dot("recurrent", h)
    if "scale" in rows:
        g = layer_norm(g, rows["scale"])
    i, f, g, o = jnp.split(u["x"] + g, 4, axis=-1)
    if "peepholes" in rows:
        p_i, p_f, p_o = jnp.split(rows["peepholes"], 3, axis=-1)
        i, f = i + p_i * c, f + p_f * c
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * _update(u, jnp.tanh(g))
    if "peepholes" in rows:
        o = o + p_o * c
    read = layer_norm(c, rows["scale_c"]) + rows["bias_c"] if "scale_c" in rows else c
    return jax.nn.sigmoid(o) * jnp.tanh(read), c


def lstm_projected(u, state, dot, rows):
    """`lstm` whose h is projected to another width; output and next token use the projected h."""
    h, c = lstm(u, state, dot, rows)
    return dot("projection", h), c


def gru(u, state, dot, rows):
    """GRU, gates r, z, n, the reset gate after the recurrent product."""
    (h,) = state
    u_r, u_z, u_n = jnp.split(u["x"], 3, axis=-1)
    g_r, g_z, g_n = jnp.split(dot("recurrent", h), 3, axis=-1)
    r, z = jax.nn.sigmoid(u_r + g_r), jax.nn.sigmoid(u_z + g_z)
    n = _update(u, jnp.tanh(u_n + r * (g_n + rows["bias_n"])))
    return (n + z * (h - n),)


def gru_before(u, state, dot, rows):
    """GRU, gates r, z, n, the reset gate before the recurrent product."""
    (h,) = state
    u_r, u_z, u_n = jnp.split(u["x"], 3, axis=-1)
    g_r, g_z = jnp.split(dot("gates", h), 2, axis=-1)
    r, z = jax.nn.sigmoid(u_r + g_r), jax.nn.sigmoid(u_z + g_z)
    n = _update(u, jnp.tanh(u_n + dot("candidate", r * h)))
    return (n + z * (h - n),)


def mgu(u, state, dot, rows):
    """MGU, gates f, n: the forget gate also resets."""
    (h,) = state
    u_f, u_n = jnp.split(u["x"], 2, axis=-1)
    f = jax.nn.sigmoid(u_f + dot("gates", h))
    n = _update(u, jnp.tanh(u_n + dot("candidate", f * h)))
    return (h + f * (n - h),)


def slstm(u, state, dot, rows):
    """sLSTM, gates i, f, z, o, side by side in each head of the recurrent kernel (H, K, 4*K); state h, c, n, m."""
    h, c, n, m = state
    g_BHM = dot("recurrent", h)
    g_BHGK = g_BHM.reshape(*g_BHM.shape[:2], 4, -1)
    i, f, z, o = jnp.split(u["x"] + jnp.swapaxes(g_BHGK, 1, 2).reshape(h.shape[0], -1), 4, axis=-1)
    log_f = jax.nn.log_sigmoid(f)
    after_m = jnp.maximum(log_f + m, i)
    write, keep = jnp.exp(i - after_m), jnp.exp(log_f + m - after_m)
    c = keep * c + write * _update(u, jnp.tanh(z))
    n = keep * n + write
    return jax.nn.sigmoid(o) * c / n, c, n, after_m


def sru(u, state, dot, rows):
    """SRU, candidate and gates f, r side by side; both gates see c through `rows["v"]`; state y, c."""
    _, c = state
    w, f, r = jnp.split(u["x"], 3, axis=-1)
    v_f, v_r = jnp.split(rows["v"], 2, axis=-1)
    f, r = jax.nn.sigmoid(f + v_f * c), jax.nn.sigmoid(r + v_r * c)
    c = w + f * (c - w)
    return u["skip"] + r * (c - u["skip"]), c
