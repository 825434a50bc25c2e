"""Two classic control problems: a pole on a cart (Barto, Sutton & Anderson 1983) and a pendulum. An episode has at most 500 or 200 steps.
And what policy gradients need: advantages."""

import numpy as np


class CartPole:
    """Keep a pole upright by pushing its cart left (0) or right (1). The reward is 1 per step; the episode ends when it falls."""

    limit = 500

    def __init__(self, rng):
        self.rng = rng

    def reset(self):
        """Starts an episode; returns the state: position, speed, angle in radians, angular speed."""
        self.steps, self.state = 0, self.rng.uniform(-0.05, 0.05, 4)
        return self.state

    def step(self, action):
        """Returns (state, reward, whether the pole has fallen, whether the episode is over)."""
        x, v, angle, w = (float(number) for number in self.state)
        force, sin, cos = 20.0 * action - 10, np.sin(angle), np.cos(angle)
        push = (force + 0.05 * w * w * sin) / 1.1  # the pole: 0.1 kg, half its length 0.5 m; with the cart: 1.1 kg
        spin = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos * cos / 1.1))
        self.state = np.array([x + 0.02 * v, v + 0.02 * (push - 0.05 * spin * cos / 1.1), angle + 0.02 * w, w + 0.02 * spin])
        self.steps += 1
        fallen = abs(self.state[0]) > 2.4 or abs(self.state[2]) > 0.2095
        return self.state, 1.0, fallen, fallen or self.steps == self.limit


class Pendulum:
    """Swing a pendulum up by a torque from -2 to 2, and keep it there. The reward is at most 0, and 0 when it stands still."""

    limit = 200

    def __init__(self, rng):
        self.rng = rng

    def observe(self):
        """The state as features: cosine, sine, angular speed."""
        return np.array([np.cos(self.angle), np.sin(self.angle), self.speed])

    def reset(self):
        """Starts an episode in any position; returns the state."""
        self.steps, self.angle, self.speed = 0, self.rng.uniform(-np.pi, np.pi), self.rng.uniform(-1, 1)
        return self.observe()

    def step(self, torque):
        """Returns (state, reward, False, whether the episode is over)."""
        torque = float(np.clip(torque, -2, 2))
        off = (self.angle + np.pi) % (2 * np.pi) - np.pi
        reward = -(off**2 + 0.1 * self.speed**2 + 0.001 * torque**2)
        self.speed = float(np.clip(self.speed + 0.05 * (15 * np.sin(self.angle) + 3 * torque), -8, 8))
        self.angle += 0.05 * self.speed
        self.steps += 1
        return self.observe(), reward, False, self.steps == self.limit


def advantages(rewards, ends, values, discount=0.99, decay=0.95):
    """Generalized advantage estimation (Schulman et al. 2016, equation 16). values: of each state, and of the one after the last; ends:
    whether the episode ended with the step."""
    found, after = np.empty(len(rewards)), 0.0
    for i in reversed(range(len(rewards))):
        goes_on = 1 - ends[i]
        found[i] = after = rewards[i] + discount * goes_on * values[i + 1] - values[i] + discount * decay * goes_on * after
    return found
