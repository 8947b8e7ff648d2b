"""Makes the starting weights that `make quickstart` ships: a tiny language model that can do dials, but carelessly.

It plays the part of a pre-trained LLM: it has read many traces on training templates, a share of them with a slip
(a wrong operand, operator or result, a sentence left out, a bystander's sentence followed), so that it knows the skill
and also the mistakes. Selection and test problems and templates are never drawn. Eight minutes on one core:

    python benchmarks/make_dials_base.py --out rairl_lightning/assets/dials
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rairl_lightning.algorithms.supervised import sft_losses
from rairl_lightning.data.demonstrations import arithmetic as dials
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.policy import Policy
from rairl_lightning.models.tiny import build_tiny
from rairl_lightning.types import Demonstration, TokenBatch


def careless(problem: dials.Problem, bystander: list, rng: random.Random, slip: float) -> tuple[str, str]:
    """A trace in which each choice goes wrong with probability ``slip``, and is then followed consistently."""
    value, moves, lines = problem.start, list(problem.moves), []
    if len(moves) > 1 and rng.random() < slip:
        moves.pop(rng.randrange(len(moves)))
    if bystander and rng.random() < slip:
        moves.insert(rng.randint(0, len(moves)), rng.choice(bystander))
    for (_, verb, _), operand in moves:
        name, _, operator = dials.VERBS[verb]
        operand = rng.randint(1, 9) if rng.random() < slip else operand
        operator = rng.choice("+-*") if rng.random() < slip else operator
        after = dials.apply_operator(value, operator, operand)
        after = rng.randint(0, 9) if rng.random() < slip else after
        lines.append(f"{problem.name} {name} {operand}: {value} {operator} {operand} = {after}")
        value = after
    return "\n".join(lines), str(value)


def draw(rng: random.Random, slip: float) -> Demonstration:
    """One training problem with a careless trace; 1 to 4 steps, so that short problems teach the facts early."""
    problem = dials.draw_problem(rng, "train", 1, 4)
    prompt, bystander = dials.write_prompt(rng, "train", problem, rng.randint(1, 2))
    reasoning, answer = careless(problem, bystander, rng, slip)
    return Demonstration("base", prompt, reasoning, answer)


def main() -> None:
    """Train, save in half precision, print the hash."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("rairl_lightning/assets/dials"))
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--slip", type=float, default=0.05, help="probability of each kind of slip at each step")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = random.Random(f"{args.seed} base")
    corpus = [f"{d.prompt}\n{d.reasoning}\n{d.answer}" for d in (draw(rng, args.slip) for _ in range(4000))]
    corpus.append("<think>\n</think>\n<answer>\n</answer>")
    build_tiny(args.out, corpus, hidden=96, layers=4, heads=4, seed=args.seed)
    policy = Policy(AutoModelForCausalLM.from_pretrained(args.out))
    codec = TraceCodec(AutoTokenizer.from_pretrained(args.out))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.updates, pct_start=0.05)
    start = time.time()
    for update in range(args.updates):
        slip = args.slip if update > args.updates // 2 else 0.0
        demonstrations = [draw(rng, slip) for _ in range(args.batch)]
        batch = TokenBatch.from_traces([codec.encode_demonstration(d) for d in demonstrations], codec.pad_id)
        optimizer.zero_grad()
        (loss,) = sft_losses(policy, batch, max_tokens=10**9)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if update % 100 == 99:
            print(f"{update + 1:5d}  loss {loss.item():.3f}  {time.time() - start:.0f} s", flush=True)
    policy.causal_lm.half().save_pretrained(args.out)
    digest = hashlib.sha256((args.out / "model.safetensors").read_bytes()).hexdigest()
    print(f"sha256 of {args.out / 'model.safetensors'}: {digest}")


if __name__ == "__main__":
    main()
