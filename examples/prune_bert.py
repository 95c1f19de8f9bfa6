"""Prune a BERT to a third, retrain it masked, save, pack and reload it: prune_bert.py [MODEL] [FOLDER]."""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification as Auto
from transformers import BertConfig, Trainer, TrainingArguments

import retrim
from retrim.torch.huggingface import PruneCallback, pack_pretrained, plan_for, save_pruned

name = sys.argv[1] if len(sys.argv) > 1 else ""  # without one: a tiny BERT from scratch
folder = Path(sys.argv[2] if len(sys.argv) > 2 else "pruned-bert")
torch.manual_seed(0)
width = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
model = Auto.from_pretrained(name) if name else Auto.from_config(BertConfig(vocab_size=100, **width))
words = torch.randint(5, 100, (256, 16))
data = [{"input_ids": row, "labels": row[1] % 2} for row in words]

pruner = retrim.ReweightedGroupLasso(refresh_every=8)
plan = plan_for(model, retrim.BlockColumns(rows=32), 1 / 3)
options = {"max_steps": 32, "learning_rate": 1e-3, "logging_steps": 8, "report_to": "none", "use_cpu": True}
arguments = TrainingArguments(str(folder / "run"), **options)
pruning = PruneCallback(plan, pruner, harden_at=0.5)  # the second half is masked retraining
Trainer(model, arguments, train_dataset=data, callbacks=[pruning]).train()

save_pruned(model, pruner, folder / "pruned")
packed = Auto.from_pretrained(pack_pretrained(folder / "pruned", folder / "packed"))
with torch.inference_mode():
    wanted, found = model.eval()(words).logits, packed(words).logits
weights = [target.parameter for target in pruner.targets]
kept = sum(int(weight.count_nonzero()) for weight in weights) / sum(weight.numel() for weight in weights)
away = float((found - wanted).abs().max() / wanted.abs().max())
sizes = [(folder / kind / "model.safetensors").stat().st_size for kind in ("pruned", "packed")]
print(f"kept {kept:.3f} of the weights of {len(weights)} layers; logits differ by {away:.1e} of the largest")
print("pruned {:,} bytes, packed {:,} bytes".format(*sizes))
