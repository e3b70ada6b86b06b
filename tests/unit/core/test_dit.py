"""Our DiT: the parts of the paper that are easy to get wrong."""

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding

from diffusion_core.dit import Block, DiT, DiTConfig, modulate, position_embedding, time_embedding

SMALL = DiTConfig(hidden_size=8, depth=2, num_heads=2)


def network(classes: int | None = None, sample_size: int = 8, channels: int = 1) -> DiT:
    torch.manual_seed(0)
    return DiT(SMALL, sample_size, channels, classes)


def test_starts_as_zero_whatever_it_sees() -> None:
    out = network(10)(torch.randn(2, 1, 8, 8), torch.tensor([3.0, 900.0]), torch.tensor([1, 10]))
    assert out.abs().max() == 0


def test_every_block_starts_as_the_identity() -> None:
    tokens = torch.randn(2, 16, 8)
    for block in network().blocks:
        assert torch.equal(block(tokens, torch.randn(2, 8)), tokens)


def test_the_null_class_is_one_extra_embedding_for_the_whole_network() -> None:
    embeddings = [part for part in network(10).modules() if isinstance(part, torch.nn.Embedding)]
    assert [embedding.num_embeddings for embedding in embeddings] == [11]


def test_every_weight_learns_after_the_first_steps() -> None:
    model = network(10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    x, t, labels = torch.randn(4, 1, 8, 8), torch.rand(4) * 999, torch.tensor([0, 1, 2, 10])
    for _ in range(3):
        optimizer.zero_grad()
        (model(x, t, labels) - torch.randn(4, 1, 8, 8)).square().mean().backward()
        optimizer.step()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


@pytest.mark.parametrize(("size", "channels"), [(4, 1), (8, 3), (12, 2)])
def test_patches_go_back_to_where_they_came_from(size: int, channels: int) -> None:
    model = network(sample_size=size, channels=channels)
    x = torch.randn(2, channels, size, size)
    tokens = x.unfold(2, 2, 2).unfold(3, 2, 2)  # [B,C,h,w,P,P]
    tokens = tokens.permute(0, 2, 3, 4, 5, 1).reshape(2, (size // 2) ** 2, 4 * channels)
    assert torch.equal(model._unpatch(tokens), x)


def test_positions_are_distinct_and_travel_with_no_checkpoint() -> None:
    rows = position_embedding(4, 8)
    assert rows.shape == (16, 8)
    assert len({tuple(row.tolist()) for row in rows}) == 16
    assert "positions" not in network().state_dict()


def test_attention_is_that_of_torch() -> None:
    block = network().blocks[0]
    assert isinstance(block, Block)
    oracle = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        for ours, theirs in ((block.qkv.weight, oracle.in_proj_weight), (block.qkv.bias, oracle.in_proj_bias)):
            theirs.copy_(ours.normal_())
        oracle.out_proj.load_state_dict(block.out.state_dict())
        x = torch.randn(3, 16, 8)
        torch.testing.assert_close(block._attend(x), oracle(x, x, x, need_weights=False)[0])


def test_time_embedding_is_that_of_diffusers_and_tells_times_apart() -> None:
    times = torch.tensor([0.0, 0.5, 1.0, 500.0, 1000.0])
    embedded = time_embedding(times)
    oracle = get_timestep_embedding(times, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(embedded, oracle, atol=1e-4, rtol=0)
    assert torch.cdist(embedded, embedded).fill_diagonal_(9).min() > 0.1


def test_modulation_is_the_same_for_all_tokens_of_a_sample() -> None:
    x = torch.ones(2, 3, 4)
    out = modulate(x, torch.tensor([[1.0], [2.0]]).expand(2, 4), torch.tensor([[0.0], [1.0]]).expand(2, 4))
    assert out[0].unique().tolist() == [2]
    assert out[1].unique().tolist() == [4]
