"""Small compiled programs as text, each with counts that can be checked by hand."""


def cycles(number: int) -> str:
    """The compiler's estimate as it stands behind an instruction."""
    return f'backend_config={{"window_config":{{"estimated_cycles":"{number}"}}}}'


def name(path: str) -> str:
    """The path of a JAX operation as it stands behind an instruction."""
    return f'metadata={{op_name="{path}" stack_frame_id=1}}'


# A loop of 3 in which a loop of 4 stands: 10 + 3 * (20 + 4 * 30) cycles. The outer one's counter
# starts at 2 and its bound is a constant; the inner one's bound is carried, its step is 2.
LOOPS = f"""HloModule loops, is_scheduled=true

%fused (p: f32[8,4]) -> f32[8,4] {{
  %p = f32[8,4]{{1,0}} parameter(0)
  ROOT %n = f32[8,4]{{1,0}} negate(%p), {cycles(1000)}
}}

%inner_body (b: (s32[], f32[8,4], s32[])) -> (s32[], f32[8,4], s32[]) {{
  %b = (s32[], f32[8,4]{{1,0}}, /*index=2*/s32[]) parameter(0)
  %two = s32[]{{:T(128)}} constant(2)
  %i = s32[] get-tuple-element(%b), index=0
  %ii = s32[]{{:T(128)S(6)}} copy(%i)
  %next = s32[] add(%two, %ii)
  %y = f32[8,4]{{1,0:T(8,128)}} get-tuple-element(%b), index=1
  %m = s32[] get-tuple-element(%b), index=2
  %z = f32[8,4]{{1,0:T(8,128)}} fusion(%y), kind=kLoop, calls=%fused, {cycles(30)}
  ROOT %o = (s32[], f32[8,4]{{1,0}}, s32[]) tuple(%next, %z, %m)
}}

%inner_condition (c: (s32[], f32[8,4], s32[])) -> pred[] {{
  %c = (s32[], f32[8,4]{{1,0}}, s32[]) parameter(0)
  %ci = s32[] get-tuple-element(%c), index=0
  %cm = s32[] get-tuple-element(%c), index=2
  ROOT %less = pred[] compare(%ci, %cm), direction=LT
}}

%outer_body (d: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {{
  %d = (s32[], f32[8,4]{{1,0}}) parameter(0)
  %one = s32[] constant(1)
  %seven = s32[] constant(7)
  %zero = s32[] constant(0)
  %j = s32[] get-tuple-element(%d), index=0
  %after = s32[] add(%j, %one)
  %x = f32[8,4]{{1,0}} get-tuple-element(%d), index=1
  %w = f32[8,4]{{1,0}} fusion(%x), kind=kLoop, calls=%fused, {cycles(20)}
  %start = (s32[], f32[8,4]{{1,0}}, s32[]) tuple(%zero, %w, %seven)
  %while.1 = (s32[], f32[8,4]{{1,0}}, s32[]) while(%start), condition=%inner_condition, body=%inner_body
  %v = f32[8,4]{{1,0}} get-tuple-element(%while.1), index=1
  ROOT %out = (s32[], f32[8,4]{{1,0}}) tuple(%after, %v)
}}

%outer_condition (e: (s32[], f32[8,4])) -> pred[] {{
  %e = (s32[], f32[8,4]{{1,0}}) parameter(0)
  %ej = s32[] get-tuple-element(%e), index=0
  %five = s32[] constant(5)
  ROOT %test = pred[] compare(%ej, %five), direction=LT
}}

ENTRY %main (a: f32[8,4]) -> f32[8,4] {{
  %a = f32[8,4]{{1,0}} parameter(0)
  %first = f32[8,4]{{1,0}} fusion(%a), kind=kLoop, calls=%fused, {cycles(10)}
  %begin = s32[] constant(2)
  %held = s32[] copy(%begin)
  %state = (s32[], f32[8,4]{{1,0}}) tuple(%held, %first)
  %while.2 = (s32[], f32[8,4]{{1,0}}) while(%state), condition=%outer_condition, body=%outer_body
  ROOT %end = f32[8,4]{{1,0}} get-tuple-element(%while.2), index=1
}}
"""  # noqa: E501

# A call, and a condition both of whose branches count: 7 + 11 + 13 cycles.
BRANCHES = f"""HloModule branches

%plain (p: f32[4]) -> f32[4] {{
  %p = f32[4]{{0}} parameter(0)
  ROOT %a = f32[4]{{0}} copy(%p), {cycles(11)}
}}

%dear (q: f32[4]) -> f32[4] {{
  %q = f32[4]{{0}} parameter(0)
  ROOT %b = f32[4]{{0}} copy(%q), {cycles(13)}
}}

%called (r: f32[4]) -> f32[4] {{
  %r = f32[4]{{0}} parameter(0)
  ROOT %c = f32[4]{{0}} copy(%r), {cycles(7)}
}}

ENTRY %main (x: f32[4], i: s32[]) -> f32[4] {{
  %x = f32[4]{{0}} parameter(0)
  %i = s32[] parameter(1)
  %y = f32[4]{{0}} call(%x), to_apply=%called
  ROOT %z = f32[4]{{0}} conditional(%i, %y, %y), branch_computations={{%plain, %dear}}
}}
"""

# One all-gather that three fusions hold a copy of while it runs, and one of another chain.
ASYNC = """HloModule sends

%start (p: f32[2,4]) -> (f32[2,4], f32[16,4]) {
  %p = f32[2,4]{1,0} parameter(0)
  %g = f32[16,4]{1,0} all-gather(%p), channel_id=5, replica_groups=mesh['a'=8] {'a'}, dimensions={0}, frontend_attributes={chain_id="23"}
  ROOT %s = (f32[2,4]{1,0}, f32[16,4]{1,0}) custom-call(%g), custom_call_target="AsyncCollectiveStart"
}

%beside (p1: f32[2,4]) -> f32[16,4] {
  %p1 = f32[2,4]{1,0} parameter(0)
  ROOT %g1 = f32[16,4]{1,0} all-gather(%p1), channel_id=5, replica_groups=mesh['a'=8] {'a'}, dimensions={0}, frontend_attributes={chain_id="23"}
}

%all-reduce-scatter.3 (p2: f32[16,4]) -> f32[2,4] {
  %p2 = f32[16,4]{1,0} parameter(0)
  ROOT %r2 = f32[16,4]{1,0} all-reduce(%p2), channel_id=6, to_apply=%add
}

%add (u: f32[], v: f32[]) -> f32[] {
  %u = f32[] parameter(0)
  %v = f32[] parameter(1)
  ROOT %t = f32[] add(%u, %v)
}

ENTRY %main (x: f32[2,4]) -> f32[2,4] {
  %x = f32[2,4]{1,0} parameter(0)
  %one = (f32[2,4]{1,0}, f32[16,4]{1,0}) fusion(%x), kind=kCustom, calls=%start
  %two = f32[16,4]{1,0} fusion(%x), kind=kCustom, calls=%beside
  %three = f32[16,4]{1,0} fusion(%x), kind=kCustom, calls=%beside
  %again = (f32[2,4]{1,0}, f32[16,4]{1,0}) all-gather-start(%x), channel_id=7, dimensions={0}
  %done = f32[16,4]{1,0} all-gather-done(%again)
  ROOT %four = f32[2,4]{1,0} fusion(%done), kind=kCustom, calls=%all-reduce-scatter.3
}
"""  # noqa: E501

# A Pallas kernel of 39.4 GFLOP and 3 x 2 MiB twice, and one that states no FLOP.
KERNELS = """HloModule kernels

ENTRY %main (x: bf16[1024,1024]) -> bf16[1024,1024] {
  %x = bf16[1024,1024]{1,0} parameter(0)
  %attend.1 = bf16[1024,1024]{1,0} custom-call(%x, %x), custom_call_target="tpu_custom_call", metadata={op_name="jit(step)/jvp(CADA.decode)/text_encoder/layers/cross/pallas_call"}, backend_config={"custom_call_config":{"body":"abc","cost_estimate":{"flops":"39400000000","bytes_accessed":"1"}}}
  %attend.2 = bf16[1024,1024]{1,0} custom-call(%attend.1, %x), custom_call_target="tpu_custom_call", backend_config={"custom_call_config":{"cost_estimate":{"flops":"39400000000"}}}
  %silent = bf16[1024,1024]{1,0} custom-call(%attend.2), custom_call_target="tpu_custom_call", backend_config={"custom_call_config":{"body":"abc"}}
  %copy-start = (bf16[1024,1024]{1,0}, bf16[1024,1024]{1,0:S(1)}, u32[]) copy-start(%silent)
  ROOT %copy-done = bf16[1024,1024]{1,0:S(1)} copy-done(%copy-start)
}
"""  # noqa: E501


def us(number: float, name: str = "") -> str:
    """What a GPU's compiler writes of its estimate, in microseconds."""
    return f'{{"end_to_end_cycles":0,"exec_time_us":{number},"compute_time_us":0,"name":"{name}"}}'


def costs(*entries: str) -> str:
    """Several such as they stand behind an instruction."""
    return f'backend_config={{"reification_cost":[{",".join(entries)}]}}'


# A GPU's program: a product of 100 us, a Triton fusion of 20, another of 30, a kernel of ours bound
# by its operations, a copy of 2 x 2 MiB, and 20.7 MB summed beside 30 us of that.
GPU = f"""HloModule gpu, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}}

%fused (p: bf16[1024,1024]) -> bf16[1024,1024] {{
  %p = bf16[1024,1024]{{1,0}} parameter(0)
  ROOT %n = bf16[1024,1024]{{1,0}} negate(%p)
}}

ENTRY %main (x: bf16[1024,1024], g: bf16[10350000]) -> bf16[1024,1024] {{
  %x = bf16[1024,1024]{{1,0}} parameter(0)
  %g = bf16[10350000]{{0}} parameter(1)
  %product = (bf16[1024,1024]{{1,0}}, s8[64]{{0}}) custom-call(%x, %x), custom_call_target="__cublas$lt$matmul", {name("jit(step)/jvp(CADA.encode_image)/image_encoder/blocks/mlp/fc1/dot_general")}, {costs(us(100, "sol"))}
  %y = bf16[1024,1024]{{1,0}} get-tuple-element(%product), index=0
  %all-reduce-start = bf16[10350000]{{0}} all-reduce-start(%g), replica_groups=[1,8]<=[8], to_apply=%sum
  %triton = bf16[1024,1024]{{1,0}} fusion(%y), kind=kCustom, calls=%fused, {costs(us(4e8), us(20, "indexing-cost-model"), us(0.01, "sol"))[:-1]},"kind":"__triton"}}
  %loop = bf16[1024,1024]{{1,0}} fusion(%triton), kind=kLoop, calls=%fused, {costs(us(10), us(1, "sol"))}
  %all-reduce-done = bf16[10350000]{{0}} all-reduce-done(%all-reduce-start)
  %kernel = bf16[1024,1024]{{1,0}} custom-call(%loop, %loop), custom_call_target="__gpu$xla.gpu.triton", backend_config={{grid_x = 1 : i32, ir = "ML", name = "attend", serialized_metadata = "{{\\22flops\\22: \\221000\\22, \\22operations\\22: \\2233450000000\\22}}"}}
  ROOT %copy.1 = bf16[1024,1024]{{0,1}} copy(%kernel)
}}
"""  # noqa: E501
