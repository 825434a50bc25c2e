// XOR in C++17.
#include <cstdio>
#include <microbp.hpp>

int main() {
    const std::vector<float> x = {0, 0, 0, 1, 1, 0, 1, 1}, y = {0, 1, 1, 0};
    std::vector<float> p(4);
    microbp::Net net;
    microbp::Trainer trainer;
    net.create("input 2\ndense 0 units=8 activation=tanh\ndense 1 units=1\noutput 2\n").or_throw();
    trainer.create(net, {"bce"}, "adam(lr=0.05)").or_throw();
    trainer.fit({x, 2}, {y, 1}, 500).or_throw();
    net.predict({x, 2}, {p, 1}).or_throw();
    std::printf("%.2f %.2f %.2f %.2f\n", p[0], p[1], p[2], p[3]);
}
